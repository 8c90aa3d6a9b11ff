from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from viral_engine.cluster import ClusterView
from viral_engine.cluster.view import Answer, Observation, build_view
from viral_engine.data import Need
from viral_engine.lsn import Lsn
from viral_engine.web import BodyLimit, RegionMiddleware, ReplaySigner, signing
from viral_engine.web.asgi import App, Message, Receive, Scope, Send
from viral_engine.web.region import Place, need_of_method


class StillClock:
    """A clock that stands where it was put."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


class FixedCluster:
    """A cluster whose view never changes."""

    def __init__(self, primary: str | None) -> None:
        seen = [
            Observation(region, 0, Answer(region != primary, 1, Lsn(1), 0.25))
            for region in ("iad", "lhr")
        ]
        self.view = build_view(("iad", "lhr"), seen, now=0, fresh_for=3)

    async def wait_for(
        self, holds: Callable[[ClusterView], bool], *, timeout: timedelta
    ) -> ClusterView:
        return self.view

    async def wait_until_replayed(
        self, region: str, *, timeline: int, lsn: Lsn, timeout: timedelta
    ) -> bool:
        return True


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    names = sorted(name.decode() for name, _ in scope["headers"])
    body = ",".join(names).encode()
    while scope["type"] == "http" and (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def _middleware(
    *,
    primary: str | None = "iad",
    clock: StillClock | None = None,
    need: Callable[[Scope], Need] = need_of_method,
    app: App = echo,
) -> RegionMiddleware:
    return RegionMiddleware(
        app,
        place=Place("lhr", "m1"),
        cluster=FixedCluster(primary),
        signer=ReplaySigner("secret", clock=clock or StillClock()),
        need=need,
    )


def _user(app: App) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://app")


async def test_every_answer_says_who_served_it_and_why() -> None:
    async with _user(_middleware()) as user:
        answer = await user.get("/")
    assert answer.headers["viral-region"] == "lhr"
    assert answer.headers["viral-machine"] == "m1"
    assert answer.headers["viral-route"] == "local; reason=replica"
    assert answer.headers["viral-staleness"] == "0.250"


async def test_what_only_we_may_set_never_reaches_the_app_from_a_client() -> None:
    forged = {
        "viral-region": "iad",
        "Viral-Route": "x",
        "viral-durability": "x",
        "fly-replay-src": "state=made-up",
    }
    async with _user(_middleware()) as user:
        answer = await user.get("/", headers={**forged, "viral-session": "mine"})
    seen = answer.text.split(",")
    assert "viral-session" in seen
    assert not {name.lower() for name in forged} & set(seen)


async def test_a_write_is_sent_to_the_primary_before_the_app_sees_it() -> None:
    async with _user(_middleware(app=_never)) as user:
        answer = await user.post("/", content=b"x" * 1024)
    assert answer.status_code == 409
    assert answer.headers["fly-replay"].startswith("region=iad;state=2.iad.write.")
    assert answer.headers["viral-route"] == "replay; reason=write"


async def test_a_forged_or_old_replay_is_an_ordinary_request() -> None:
    clock = StillClock()
    app = _middleware(clock=clock)
    state = ReplaySigner("secret", clock=clock).sign("lhr", "write")
    async with _user(app) as user:
        good = await user.post("/", headers={"fly-replay-src": f"region=iad;state={state}"})
        forged = await user.post("/", headers={"fly-replay-src": f"state={state[:-1]}_"})
        clock.at += timedelta(days=1, seconds=1)
        old = await user.post("/", headers={"fly-replay-src": f"region=iad;state={state}"})
    # It came for the primary's sake and is not sent on: the primary is asked over the wire.
    assert (good.status_code, good.headers["viral-route"]) == (
        200,
        "primary; reason=moved; lapsed=primacy",
    )
    assert (forged.status_code, old.status_code) == (409, 409)


async def test_a_replay_of_another_versions_form_counts_as_none() -> None:
    signer = ReplaySigner("secret", clock=StillClock())
    for claim in ("3.lhr.write.0.more", "3.lhr.write.0", "2.lhr.write", ""):
        assert signer.read(f"{claim}.{signing._mac(b'secret', claim)}") is None


async def test_while_the_secret_is_changed_replays_signed_with_either_count() -> None:
    clock = StillClock()
    old, new = ReplaySigner("old", clock=clock), ReplaySigner("new", "old", clock=clock)
    assert new.read(old.sign("lhr", "write")) == signing.Replay("lhr", "write")
    assert new.read(new.sign("lhr", "write")) == signing.Replay("lhr", "write")
    assert old.read(new.sign("lhr", "write")) is None
    assert ReplaySigner("new", "older", clock=clock).read(old.sign("lhr", "write")) is None


async def test_without_a_primary_a_write_is_refused_and_a_read_is_served() -> None:
    async with _user(_middleware(primary=None)) as user:
        write, read = await user.post("/"), await user.get("/")
    assert (write.status_code, write.headers["retry-after"]) == (503, "1")
    assert write.headers["content-type"] == "application/problem+json"
    assert read.status_code == 200


async def test_health_is_served_by_the_process_whatever_the_cluster_is() -> None:
    async with _user(_middleware(primary=None)) as user:
        answer = await user.get("/api/health")
    assert answer.headers["viral-route"] == "local; reason=process"


async def test_a_body_too_large_for_a_replay_is_refused_declared_or_not() -> None:
    async def chunks() -> Any:
        for _ in range(33):
            yield b"x" * 32 * 1024

    async with _user(_middleware(app=_never)) as user:
        declared = await user.post("/", content=b"x" * (1024 * 1024 + 1))
        counted = await user.post("/", content=chunks())
    assert (declared.status_code, counted.status_code) == (413, 413)


@pytest.mark.parametrize(("size", "status"), [(10, 200), (11, 413)])
async def test_the_limit_of_a_body_holds_to_the_byte(size: int, status: int) -> None:
    async def chunks() -> Any:
        for _ in range(size):
            yield b"x"

    async with _user(BodyLimit(echo, limit=10)) as user:
        declared = await user.post("/", content=b"x" * size)
        counted = await user.post("/", content=chunks())
    assert (declared.status_code, counted.status_code) == (status, status)


@pytest.mark.parametrize("denial", [True, False])
async def test_a_socket_that_needs_the_primary_is_denied_before_it_is_accepted(
    *, denial: bool
) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "websocket",
        "path": "/live",
        "headers": [],
        "extensions": {"websocket.http.response": {}} if denial else {},
    }
    app = _middleware(app=_never, need=lambda _scope: Need.PRIMARY)
    await app(scope, _nothing, send)
    if denial:
        assert (sent[0]["type"], sent[0]["status"]) == ("websocket.http.response.start", 409)
        assert dict(sent[0]["headers"])[b"fly-replay"].startswith(b"region=iad;")
    else:
        assert [message["type"] for message in sent] == ["websocket.close"]


async def _never(scope: Scope, receive: Receive, send: Send) -> None:
    pytest.fail("the app saw a request that is served elsewhere")


async def _nothing() -> Message:
    pytest.fail("nothing is to be read")
