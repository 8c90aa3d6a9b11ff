"""Where a request is served that a database failed before anything of it was done."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest

from viral_engine.cluster import ClusterView
from viral_engine.cluster.view import Answer, Observation, build_view
from viral_engine.data.request import current_route
from viral_engine.errors import BusyError, DatabaseError, NoPrimaryError, ReplicaUnavailableError
from viral_engine.lsn import Lsn
from viral_engine.web import RegionMiddleware, ReplaySigner
from viral_engine.web.asgi import Receive, Scope, Send
from viral_engine.web.problem import database_problem, send_problem
from viral_engine.web.region import Place

HERE, THERE = "iad", "lhr"
LATER = float("inf")
"""When a node answered that did so after whatever failed."""
SIGNER = ReplaySigner("secret")


def view(
    primary: str | None, *, at: float = LATER, answering: tuple[str, ...] = (HERE, THERE)
) -> ClusterView:
    seen = [
        Observation(region, at, Answer(region != primary, 1, Lsn(1), 0.0)) for region in answering
    ]
    return build_view((HERE, THERE), seen, now=LATER, fresh_for=LATER)


class Moving:
    """A cluster whose view becomes the next one when somebody waits for another."""

    def __init__(self, *views: ClusterView) -> None:
        self._views = list(views)

    @property
    def view(self) -> ClusterView:
        return self._views[0]

    async def wait_for(
        self, holds: Callable[[ClusterView], bool], *, timeout: timedelta
    ) -> ClusterView:
        while not holds(self.view) and len(self._views) > 1:
            self._views.pop(0)
        return self.view

    async def wait_until_replayed(
        self, region: str, *, timeline: int, lsn: Lsn, timeout: timedelta
    ) -> bool:
        return False


class Failing:
    """An app whose database fails its first runs, each as told, after it has read the body."""

    def __init__(self, *faults: DatabaseError) -> None:
        self.faults = list(faults)
        self.runs = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.runs += 1
        if scope["method"] == "POST":
            assert (await receive())["body"] == b"all of it"
        if not self.faults:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"served"})
            return
        bound = current_route()
        assert bound is not None
        fault = self.faults.pop(0)
        bound.note_fault(fault)
        await send_problem(scope, send, database_problem(fault))


async def ask(
    app: Failing, cluster: Moving, *, method: str = "POST", replayed: bool = False
) -> httpx.Response:
    led = RegionMiddleware(app, place=Place(HERE, "m1"), cluster=cluster, signer=SIGNER)
    headers = {"fly-replay-src": f"state={SIGNER.sign(HERE, 'write')}"} if replayed else {}
    transport = httpx.ASGITransport(app=led)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as user:
        content = b"all of it" if method == "POST" else None
        return await user.request(method, "/", content=content, headers=headers)


BEFORE = view(HERE, at=0)
MOVED = (BEFORE, view(None), view(THERE))


async def test_a_write_goes_to_the_region_that_the_primary_has_moved_to() -> None:
    app = Failing(NoPrimaryError())
    answer = await ask(app, Moving(*MOVED))
    assert (answer.status_code, app.runs) == (409, 1)
    assert answer.headers["fly-replay"].startswith(f"region={THERE};state=")
    assert answer.headers["viral-route"] == "replay; reason=write"


async def test_one_that_was_sent_here_already_is_sent_on_by_nobody() -> None:
    app = Failing(NoPrimaryError())
    answer = await ask(app, Moving(*MOVED), replayed=True)
    assert (answer.status_code, app.runs) == (200, 2)
    assert answer.headers["viral-route"] == "primary; reason=write; lapsed=primacy"


async def test_a_busy_primary_that_stays_where_it_is_is_not_waited_for() -> None:
    app = Failing(BusyError())
    answer = await ask(app, Moving(view(HERE)))
    assert (answer.status_code, answer.headers["retry-after"], app.runs) == (503, "1", 1)


async def test_whoever_was_held_waits_on_while_all_others_that_were_held_are_served() -> None:
    app = Failing(NoPrimaryError(), BusyError(), BusyError())
    answer = await ask(app, Moving(BEFORE, view(HERE)))
    assert (answer.status_code, app.runs) == (200, 4)


@pytest.mark.parametrize("where", ["before", "within"])
async def test_without_a_primary_a_read_goes_to_the_replica_of_another_region(where: str) -> None:
    lost = view(None, answering=(THERE,))
    app = Failing(ReplicaUnavailableError())
    cluster = Moving(lost) if where == "before" else Moving(BEFORE, lost)
    answer = await ask(app, cluster, method="GET")
    assert (answer.status_code, app.runs) == (409, 0 if where == "before" else 1)
    assert answer.headers["fly-replay"].startswith(f"region={THERE};state=")
    assert answer.headers["viral-route"] == "replay; reason=replica-elsewhere"


async def test_a_read_that_was_sent_here_is_held_here() -> None:
    app = Failing(ReplicaUnavailableError())
    cluster = Moving(view(None, answering=(THERE,)), view(HERE))
    answer = await ask(app, cluster, method="GET", replayed=True)
    assert (answer.status_code, app.runs) == (200, 2)


async def test_what_came_back_from_a_region_that_cannot_be_reached_is_held_here() -> None:
    app = Failing()
    led = RegionMiddleware(app, place=Place(HERE, "m1"), cluster=Moving(view(THERE)), signer=SIGNER)
    transport = httpx.ASGITransport(app=led)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as user:
        sent = await user.post("/", content=b"all of it")
        back = {"fly-replay-failed": f"region={THERE};reason=no_candidate"}
        came_back = await user.post("/", content=b"all of it", headers=back)
    assert sent.headers["fly-replay"].endswith(";timeout=2s;fallback=prefer_self")
    assert (came_back.status_code, app.runs) == (200, 1)
    assert came_back.headers["viral-route"].startswith("primary; reason=moved")
