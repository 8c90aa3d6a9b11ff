"""A request is handed on at most twice, whatever its machines believe, and whoever made up its home."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from viral_engine.cluster.view import Answer, ClusterView, Observation, build_view
from viral_engine.data import Detour, TokenSigner, current_route
from viral_engine.lsn import Lsn
from viral_engine.topology.model import Consistency, Sticky
from viral_engine.web import RegionMiddleware, ReplaySigner
from viral_engine.web.asgi import Receive, Scope, Send
from viral_engine.web.declared import Declarations
from viral_engine.web.region import Place

REGIONS = ("iad", "lhr", "nrt")
MACHINES = [(region, machine) for region in REGIONS for machine in ("m1", "m2")]


class Belief:
    """What a machine takes for the cluster."""

    def __init__(self, primary: str | None) -> None:
        seen = [
            Observation(region, 0, Answer(region != primary, 1, Lsn(1), 0.0)) for region in REGIONS
        ]
        self.view = build_view(REGIONS, seen, now=0, fresh_for=3)

    async def wait_for(
        self, holds: Callable[[ClusterView], bool], *, timeout: timedelta
    ) -> ClusterView:
        return self.view

    async def wait_until_replayed(
        self, region: str, *, timeline: int, lsn: Lsn, timeout: timedelta
    ) -> bool:
        return True


class WrongClock:
    """A clock that is off by so many hours."""

    def __init__(self, hours: int) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hours)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0


async def writes_in_reads(scope: Scope, receive: Receive, send: Send) -> None:
    """Write below /count, whatever the method is, and answer."""
    bound = current_route()
    assert bound
    if scope["path"] == "/count" and bound.route.reason != "primary-here":
        bound.detour = Detour.WRITE_IN_READ
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class Proxy:
    """Follows fly-replay as the platform's proxy does, and notes why."""

    def __init__(self, apps: Mapping[tuple[str, str], RegionMiddleware], gone: str | None) -> None:
        self._apps = apps
        self._gone = gone
        self.reasons: list[str] = []

    async def send(self, method: str, path: str, *, home: str, region: str) -> httpx.Response:
        at, headers = self._near(region), {"viral-home": home}
        while True:
            transport = httpx.ASGITransport(app=self._apps[at])
            async with httpx.AsyncClient(transport=transport, base_url="https://app") as client:
                answer = await client.request(method, path, headers=headers)
            asked = answer.headers.get("fly-replay")
            if asked is None or len(self.reasons) == 10:
                return answer
            regions = asked.partition("region=")[2].partition(";")[0].strip('"').split(",")
            machine = re.search(r"prefer_instance=([\w-]+)", asked)
            state = asked.partition("state=")[2]
            self.reasons.append(state.split(".")[2])
            target = next(found for found in regions if found != self._gone)
            preferred = (target, machine[1] if machine else "m1")
            at = preferred if preferred in self._apps else self._near(target)
            headers["fly-replay-src"] = f"instance=x;region={region};t=1;state={state}"

    def _near(self, region: str) -> tuple[str, str]:
        return (region, "m2")


beliefs = st.fixed_dictionaries({at: st.sampled_from((*REGIONS, None)) for at in MACHINES})
hours = st.fixed_dictionaries({at: st.integers(-20, 20).map(lambda h: h // 2) for at in MACHINES})
homes = st.sampled_from(["", "iad", "lhr", "nrt", "xyz", "iad.m1", "lhr.m2", "nrt.gone", "lhr.m1"])


@pytest.mark.parametrize("sticky", list(Sticky))
@given(
    beliefs=beliefs,
    hours=hours,
    home=homes,
    region=st.sampled_from(REGIONS),
    asked=st.sampled_from(
        [("GET", "/"), ("GET", "/count"), ("GET", "/strong"), ("POST", "/"), ("HEAD", "/strong")]
    ),
    gone=st.sampled_from([None, "iad"]),
)
async def test_a_request_is_handed_home_then_to_the_primary_and_never_on(
    *,
    sticky: Sticky,
    beliefs: Mapping[tuple[str, str], str | None],
    hours: Mapping[tuple[str, str], int],
    home: str,
    region: str,
    asked: tuple[str, str],
    gone: str | None,
) -> None:
    apps = {
        at: RegionMiddleware(
            writes_in_reads,
            place=Place(*at),
            cluster=Belief(beliefs[at] if beliefs[at] != gone else None),
            signer=ReplaySigner("shared", clock=WrongClock(hours[at])),
            tokens=TokenSigner("shared"),
            declared=Declarations({"/strong": Consistency.STRONG}),
            sticky=sticky,
            hold=timedelta(0),
        )
        for at in MACHINES
    }
    if region == gone:
        region = "lhr"
    proxy = Proxy(apps, gone)
    answer = await proxy.send(*asked, home=home, region=region)
    assert "fly-replay" not in answer.headers
    for_home = [reason == "sticky" for reason in proxy.reasons]
    assert for_home in ([], [True], [False], [True, False])
    if sticky is Sticky.OFF or asked[0] == "POST" or asked[1] == "/strong":
        assert True not in for_home
