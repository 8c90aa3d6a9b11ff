"""What requests are answered that somebody else, or a wrong clock, has made odd."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import psycopg
import pytest

from viral_engine.cluster.view import Answer, ClusterView, Observation, build_view
from viral_engine.data import Detour, Need, SessionToken, TokenSigner, current_route
from viral_engine.data.commit import Commit
from viral_engine.data.positions import Position
from viral_engine.data.token import Span
from viral_engine.errors import ReplicaUnavailableError
from viral_engine.lsn import Lsn
from viral_engine.topology.model import Consistency, Sticky
from viral_engine.web import RegionMiddleware, ReplaySigner
from viral_engine.web.asgi import App, Message, Receive, Scope, Send
from viral_engine.web.declared import Declarations
from viral_engine.web.region import Place, need_of_method

CLUSTER = 77
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
STRONG = Declarations({"billing": Consistency.STRONG, "/vault": Consistency.STRICT})


@dataclass
class Clock:
    at: datetime = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


@dataclass
class Cluster:
    view: ClusterView

    async def wait_for(
        self, holds: Callable[[ClusterView], bool], *, timeout: timedelta
    ) -> ClusterView:
        return self.view

    async def wait_until_replayed(
        self, region: str, *, timeline: int, lsn: Lsn, timeout: timedelta
    ) -> bool:
        return False


def view(
    primary: str = "iad",
    *,
    timeline: int = 1,
    ends: Mapping[int, Lsn] | None = None,
    primacy: float | None = 3.0,
    guarded: bool = True,
) -> ClusterView:
    seen = [
        Observation(
            region,
            0,
            Answer(
                region != primary, timeline, Lsn(1000), 0.0, CLUSTER, guarded=guarded,
                primacy_seconds=primacy if region == primary else None, ends=ends or {},
            ),
        )
        for region in ("iad", "lhr")
    ]  # fmt: skip
    return build_view(("iad", "lhr"), seen, now=0, fresh_for=3)


def signer(ahead: timedelta = timedelta(0)) -> ReplaySigner:
    return ReplaySigner("secret", clock=Clock(NOW + ahead))


def tokens(ahead: timedelta = timedelta(0)) -> TokenSigner:
    return TokenSigner("secret", clock=Clock(NOW + ahead))


def token(position: int, *, ahead: timedelta = timedelta(0), wrote: Span | None = None) -> str:
    return tokens(ahead).sign(SessionToken(CLUSTER, 1, Lsn(position), NOW + ahead, wrote))


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    pytest.fail("the app saw a request that is not served here")


def runtime(
    app: App = answers,
    *,
    seen: ClusterView | None = None,
    here: str = "lhr",
    ahead: timedelta = timedelta(0),
    sticky: Sticky = Sticky.OFF,
) -> RegionMiddleware:
    return RegionMiddleware(
        app,
        place=Place(here, "m1"),
        cluster=Cluster(seen or view()),
        signer=signer(ahead),
        tokens=tokens(ahead),
        declared=STRONG,
        need=lambda scope: Need.PRIMARY if scope["path"] == "/edit" else need_of_method(scope),
        sticky=sticky,
    )


async def ask(app: App, path: str = "/", *, method: str = "GET", **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="https://app") as client:
        return await client.request(method, path, headers=sent)


def replayed(region: str, reason: str, ahead: timedelta = timedelta(0)) -> str:
    return f"instance=x;region=iad;t=1;state={signer(ahead).sign(region, reason)}"


# Clocks that are off by an hour.


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
async def test_a_token_of_a_clock_an_hour_off_is_ignored_and_the_request_is_served(
    ahead: timedelta,
) -> None:
    got = await ask(runtime(), viral_session=token(900, ahead=ahead))
    assert (got.status_code, got.headers["viral-session-ignored"]) == (200, "expired")
    assert got.headers["viral-route"] == "local; reason=replica"


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
@pytest.mark.parametrize("path", ["/", "/billing"])
async def test_a_replay_of_a_clock_an_hour_off_still_stops_here(
    ahead: timedelta, path: str
) -> None:
    method = "POST" if path == "/" else "GET"
    got = await ask(runtime(), path, method=method, fly_replay_src=replayed("lhr", "write", ahead))
    assert "fly-replay" not in got.headers
    assert (got.status_code, got.headers["viral-route"]) == (
        200,
        "primary; reason=moved",
    )


# What a client asks for.


@pytest.mark.parametrize("asked", ["linearizable", "", "strong,eventual", "weak"])
async def test_a_consistency_that_there_is_not_is_refused(asked: str) -> None:
    got = await ask(runtime(never), viral_consistency=asked)
    assert got.status_code == 400
    assert got.json()["type"] == "urn:viral-engine:problem:unknown-consistency"
    assert "eventual, strong, strict" in got.json()["detail"]


@pytest.mark.parametrize(
    ("path", "asked", "route"),
    [
        ("/tasks", {}, "local; reason=replica"),
        ("/tasks", {"viral_consistency": "eventual"}, "local; reason=replica"),
        ("/tasks", {"viral_consistency": " Strong"}, "replay; reason=strong"),
        ("/tasks", {"viral_consistency": "strict"}, "replay; reason=strong"),
        ("/billing", {}, "replay; reason=strong"),
        ("/billing/7", {"viral_consistency": "eventual"}, "replay; reason=strong"),
        ("/api/billing", {}, "replay; reason=strong"),
        ("/vault/1", {"viral_consistency": "strong"}, "replay; reason=strong"),
        ("/billings", {}, "local; reason=replica"),
    ],
)
async def test_a_client_may_ask_for_more_than_was_declared_and_never_for_less(
    path: str, asked: dict[str, str], route: str
) -> None:
    got = await ask(runtime(), path, **asked)
    assert got.headers["viral-route"] == route
    assert got.status_code == (409 if "strong" in route else 200)


async def test_a_strict_request_is_strict_for_what_it_does() -> None:
    found: list[Consistency] = []

    async def notes(scope: Scope, receive: Receive, send: Send) -> None:
        bound = current_route()
        assert bound
        found.append(bound.consistency)
        await answers(scope, receive, send)

    app = runtime(notes, here="iad")
    await ask(app, "/vault", method="POST")
    await ask(app, "/tasks", method="POST", viral_consistency="strict")
    await ask(app, "/billing", method="POST")
    assert found == [Consistency.STRICT, Consistency.STRICT, Consistency.STRONG]


async def test_a_socket_that_reads_something_strong_asks_the_primary_over_the_wire() -> None:
    routes: list[str] = []

    async def talks(scope: Scope, receive: Receive, send: Send) -> None:
        bound = current_route()
        assert bound
        await send({"type": "websocket.accept"})
        routes.append(str(bound.route))
        await receive()
        routes.append(str(bound.route))

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.receive", "text": "more"}

    scope: Scope = {"type": "websocket", "path": "/billing/live", "headers": []}
    await runtime(talks)(scope, receive, send)
    assert routes == ["primary; reason=strong"] * 2
    assert (b"viral-route", b"primary; reason=strong") in sent[0]["headers"]


# What primacy says, and where there is none.


async def test_without_primacy_what_needs_the_primary_is_held_and_then_refused() -> None:
    app = runtime(seen=view(primacy=0.0))
    write, strong, read = (
        await ask(app, method="POST"), await ask(app, "/billing"), await ask(app)
    )  # fmt: skip
    assert [write.status_code, strong.status_code, read.status_code] == [503, 503, 200]
    assert {write.headers["viral-route"], strong.headers["viral-route"]} == {
        "degraded; reason=no-primacy"
    }
    assert write.json()["type"].endswith(":no-primacy")
    assert write.headers["retry-after"] == "1"


async def test_an_external_database_says_that_nothing_proves_its_primacy() -> None:
    external = view(guarded=False)
    for path, method in (("/billing", "GET"), ("/", "POST")):
        got = await ask(runtime(here="iad", seen=external), path, method=method)
        assert got.headers["viral-route"] == "local; reason=primary-here; lapsed=primacy"
        got = await ask(runtime(here="iad"), path, method=method)
        assert got.headers["viral-route"] == "local; reason=primary-here"
    got = await ask(runtime(seen=external))
    assert got.headers["viral-route"] == "local; reason=replica"


# Detours: a read that the database refused for what it does here.


async def refused(scope: Scope, receive: Receive, send: Send) -> None:
    """Write in a read, and say of it what apps say."""
    bound = current_route()
    assert bound
    if not bound.writes_anyway:
        bound.detour = Detour.WRITE_IN_READ
    status = 200 if bound.writes_anyway else 500
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"what the handler made of it"})


async def test_a_write_in_a_read_is_served_once_more_where_it_may_write() -> None:
    got = await ask(runtime(refused), "/count")
    assert (got.status_code, got.headers["viral-route"]) == (409, "replay; reason=write-in-read")
    assert b"handler" not in got.content
    state = got.headers["fly-replay"].partition("state=")[2].partition(";")[0]
    assert got.headers["fly-replay"].startswith("region=iad;state=")
    again = {"fly_replay_src": f"instance=x;region=lhr;t=1;state={state}"}
    got = await ask(runtime(refused, here="iad"), "/count", **again)
    assert (got.status_code, got.headers["viral-route"]) == (200, "local; reason=primary-here")
    # Sent on once: a primary that moved meanwhile is asked over the wire.
    got = await ask(runtime(refused, here="lhr"), "/count", **again)
    assert (got.status_code, got.headers["viral-route"]) == (
        200,
        "primary; reason=moved",
    )


async def test_what_a_handler_raises_of_a_refused_read_is_dropped_too() -> None:
    async def raises(scope: Scope, receive: Receive, send: Send) -> None:
        bound = current_route()
        assert bound
        bound.detour = Detour.CONFLICT
        raise ReplicaUnavailableError

    got = await ask(runtime(raises))
    assert (got.status_code, got.headers["viral-route"]) == (
        409,
        "replay; reason=recovery-conflict",
    )


async def chunks() -> object:
    yield b"x"


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_read_with_a_body_goes_on_no_detour(*, chunked: bool) -> None:
    transport = httpx.ASGITransport(app=runtime(refused))
    async with httpx.AsyncClient(transport=transport, base_url="https://app") as client:
        content = chunks() if chunked else b"x"
        got = await client.request("GET", "/", content=content)  # type: ignore[arg-type]  # as above
    assert (got.status_code, got.content) == (500, b"what the handler made of it")


async def test_a_request_that_has_written_goes_on_no_detour() -> None:
    async def writes(scope: Scope, receive: Receive, send: Send) -> None:
        bound = current_route()
        assert bound
        bound.session.wrote_at(Commit(1, Lsn(5), Lsn(9), in_two_regions=True), cluster=CLUSTER)
        await refused(scope, receive, send)

    got = await ask(runtime(writes))
    assert (got.status_code, got.content) == (500, b"what the handler made of it")


async def test_a_request_whose_answer_has_begun_goes_on_no_detour() -> None:
    async def begins(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        bound = current_route()
        assert bound
        bound.detour = Detour.WRITE_IN_READ
        raise psycopg.errors.ReadOnlySqlTransaction

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    scope: Scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        await runtime(begins)(scope, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]


async def test_a_session_that_was_sent_home_may_still_go_to_the_primary_once() -> None:
    home = runtime(refused, sticky=Sticky.REGION)
    got = await ask(home, fly_replay_src=replayed("lhr", "sticky"), viral_home="lhr")
    assert (got.status_code, got.headers["viral-route"]) == (409, "replay; reason=write-in-read")
    got = await ask(home, "/billing", fly_replay_src=replayed("lhr", "sticky"), viral_home="lhr")
    assert (got.status_code, got.headers["viral-route"]) == (409, "replay; reason=strong")


async def test_a_session_that_was_sent_somewhere_is_sent_home_no_more() -> None:
    app = runtime(sticky=Sticky.MACHINE)
    sent_here = (replayed("lhr", "sticky"), "instance=x;region=iad;t=1", "state=made-up", "")
    for source in sent_here:
        got = await ask(app, fly_replay_src=source, viral_home="iad.m9")
        assert (got.status_code, got.headers["viral-home"]) == (200, "lhr.m1"), source
    got = await ask(app, viral_home="iad.m9")
    assert (got.status_code, got.headers["viral-route"]) == (409, "replay; reason=sticky")
    assert got.headers["fly-replay"].startswith('region="iad,lhr";prefer_instance=m9;state=2.iad.')
    assert "viral-home" not in got.headers


# What a client is told of its session.


@pytest.mark.parametrize(
    ("wrote", "said"),
    [
        (Span(Lsn(300), Lsn(310)), "write-lost"),
        (Span(Lsn(150), Lsn(310)), "write-unknown"),
        (Span(Lsn(100), Lsn(110)), "read-lost"),
        (None, "read-lost"),
    ],
)
async def test_what_a_failover_took_from_a_client_is_said_at_once(
    wrote: Span | None, said: str
) -> None:
    after = view(timeline=2, ends={1: Lsn(200)})
    got = await ask(runtime(seen=after), viral_session=token(310, wrote=wrote))
    assert (got.status_code, got.headers["viral-session-lost"]) == (200, said)
    told = tokens().read(got.headers["viral-session"])
    assert isinstance(told, SessionToken)
    assert (told.timeline, told.position) == (2, Lsn(200))
    # With the new token there is nothing left to say.
    got = await ask(runtime(seen=after), viral_session=got.headers["viral-session"])
    assert "viral-session-lost" not in got.headers


async def writes_or_reads(scope: Scope, receive: Receive, send: Send) -> None:
    bound = current_route()
    assert bound
    at = int(scope["path"].rpartition("/")[2])
    if scope["method"] == "POST":
        commit = Commit(1, Lsn(at - 5), Lsn(at), in_two_regions=True)
        bound.session.wrote_at(commit, cluster=CLUSTER)
    else:
        bound.session.read_at(Position(1, Lsn(at), in_recovery=True), cluster=CLUSTER)
    await answers(scope, receive, send)


async def test_an_answer_that_overtakes_another_does_not_undo_a_write() -> None:
    """A browser keeps the cookies of the answer that came last, which is not the write's."""
    app = runtime(writes_or_reads, here="iad")
    read, write = await ask(app, "/50"), await ask(app, "/700", method="POST")
    assert set(write.cookies) == {"viral-session", "viral-session-wrote"}
    late = f"viral-session={read.cookies['viral-session']}"
    wrote = f"viral-session-wrote={write.cookies['viral-session-wrote']}"
    for cookie, seen in ((late, 60), (f"{late}; {wrote}", 700)):
        got = await ask(app, "/60", cookie=cookie)
        told = tokens().read(got.headers["viral-session"])
        assert isinstance(told, SessionToken)
        assert told.position == Lsn(seen)


async def test_a_client_that_sends_the_header_gets_no_cookie() -> None:
    app = runtime(writes_or_reads, here="iad", sticky=Sticky.REGION)
    for method in ("GET", "POST"):
        got = await ask(app, "/600", method=method, viral_session=token(500))
        assert "viral-session" in got.headers
        assert "set-cookie" not in got.headers
    got = await ask(app, "/600", method="POST")
    assert len(got.headers.get_list("set-cookie")) == 2
