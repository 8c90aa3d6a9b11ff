from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from viral_engine.cluster import ClusterView
from viral_engine.cluster.view import Answer, Observation, build_view
from viral_engine.data import SessionToken, TokenSigner, current_route
from viral_engine.data.positions import Position
from viral_engine.errors import ReplicaUnavailableError
from viral_engine.lsn import Lsn
from viral_engine.web import RegionMiddleware, ReplaySigner
from viral_engine.web.asgi import App, Receive, Scope, Send
from viral_engine.web.region import Place

CLUSTER = 77
SIGNER = TokenSigner("secret")


class Cluster:
    """Whose view is replaced by the next one each time somebody waits."""

    def __init__(self, *views: ClusterView, slow: bool = True) -> None:
        self.views = list(views)
        self.slow = slow
        self.waits: list[str] = []

    @property
    def view(self) -> ClusterView:
        return self.views[0]

    def _next(self) -> ClusterView:
        if len(self.views) > 1:
            self.views.pop(0)
        return self.view

    async def wait_for(
        self, holds: Callable[[ClusterView], bool], *, timeout: timedelta
    ) -> ClusterView:
        self.waits.append(f"cluster {round(timeout.total_seconds())}")
        return self._next()

    async def wait_until_replayed(
        self, region: str, *, timeline: int, lsn: Lsn, timeout: timedelta
    ) -> bool:
        self.waits.append(f"replica {round(timeout.total_seconds())}")
        self._next()
        return self.slow


def view(replica_at: int, *, primary: str | None = "iad", lag: float | None = 0.5) -> ClusterView:
    seen = [Observation("lhr", 0, Answer(True, 1, Lsn(replica_at), lag, CLUSTER))]
    if primary:
        seen.append(Observation("iad", 0, Answer(False, 1, Lsn(1000), 0.0, CLUSTER)))
    return build_view(("iad", "lhr"), seen, now=0, fresh_for=3)


def token(
    position: int = 100,
    *,
    timeline: int = 1,
    cluster: int = CLUSTER,
    signer: TokenSigner = SIGNER,
    tenant: str = "",
) -> str:
    seen = SessionToken(cluster, timeline, Lsn(position), datetime.now(UTC))
    return signer.sign(seen, tenant=tenant)


async def reads_at(position: int) -> None:
    bound = current_route()
    assert bound
    bound.session.read_at(Position(1, Lsn(position), in_recovery=True), cluster=CLUSTER)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"].startswith("/read/"):
        await reads_at(int(scope["path"].rpartition("/")[2]))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def user(
    cluster: Cluster, *, base: str = "https://app.example", inner: App = app
) -> httpx.AsyncClient:
    middleware = RegionMiddleware(
        inner,
        place=Place("lhr", "m1"),
        cluster=cluster,
        signer=ReplaySigner("secret"),
        tokens=SIGNER,
        process_local=frozenset({"/health"}),
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=middleware), base_url=base)


def position_of(answer: httpx.Response) -> int:
    read = SIGNER.read(answer.headers["viral-session"])
    assert isinstance(read, SessionToken), read
    return read.position.position


@pytest.mark.parametrize(
    ("views", "expected", "waits"),
    [
        ([view(100)], "local; reason=replica", []),
        ([view(99), view(100)], "wait; reason=replica-behind", ["replica 2"]),
        ([view(99), view(99)], "primary; reason=replica-behind", ["replica 2"]),
        ([view(500, lag=None)], "primary; reason=replica-not-streaming", []),
        ([view(500, primary=None, lag=None)], "local; reason=replica", []),
        (
            [view(99, primary=None), view(99, primary=None), view(99)],
            "primary; reason=replica-behind",
            ["replica 2", "cluster 15"],
        ),
        (
            [view(99, primary=None), view(99, primary=None), view(100, primary=None)],
            "wait; reason=replica-behind",
            ["replica 2", "cluster 15"],
        ),
        (
            [view(99, primary=None)],
            "degraded; reason=replica-behind-and-no-primary",
            ["replica 2", "cluster 15"],
        ),
    ],
)
async def test_a_read_goes_where_its_token_is_covered_and_waits_only_where_that_helps(
    views: list[ClusterView], expected: str, waits: list[str]
) -> None:
    cluster = Cluster(*views)
    async with user(cluster) as client:
        answer = await client.get("/", headers={"viral-session": token(100)})
    said, _, _ = answer.headers["viral-route"].partition("; waited=")
    assert said == expected
    assert cluster.waits == waits
    assert ("viral-staleness" in answer.headers) is ("replica" in expected[:21])


async def test_a_replica_that_only_the_view_was_older_than_was_not_waited_for() -> None:
    async with user(Cluster(view(99), view(100), slow=False)) as client:
        answer = await client.get("/", headers={"viral-session": token(100)})
    assert answer.headers["viral-route"] == "local; reason=replica"


async def test_r04_a_token_of_another_timeline_is_answered_by_the_primary_without_a_wait() -> None:
    for timeline in (0, 2):
        cluster = Cluster(view(10_000))
        async with user(cluster) as client:
            sent = {"viral-session": token(100, timeline=timeline)}
            answer = await client.get("/", headers=sent)
        assert answer.headers["viral-route"] == "primary; reason=timeline-changed"
        assert cluster.waits == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("f" * 64, "malformed"),
        ("2.ffffffff." + "f" * 60, "unknown-key"),
        (token(signer=TokenSigner("another")), "unknown-key"),
        (token(tenant="t"), "forged"),
        (token(cluster=1), "foreign-cluster"),
        (token(2**64 - 1), "far-ahead"),
        ("x" * 100_000, "malformed"),
    ],
)
async def test_r15_a_token_that_cannot_be_used_costs_nothing_and_says_why(
    text: str, reason: str
) -> None:
    cluster = Cluster(view(1))
    async with user(cluster) as client:
        answer = await client.get("/", headers={"viral-session": text})
    assert answer.headers["viral-route"] == "local; reason=replica"
    assert answer.headers["viral-session-ignored"] == reason
    assert "viral-session" not in answer.headers
    assert cluster.waits == []


async def test_header_and_cookie_are_merged_by_the_furthest_position() -> None:
    for header, cookie in ((50, 300), (300, 50)):
        async with user(Cluster(view(500))) as client:
            sent = {
                "viral-session": f"{token(20)}, {token(header)}",
                "cookie": f"a=b; viral-session={token(cookie)}; viral-session=made-up",
            }
            answer = await client.get("/read/40", headers=sent)
        assert position_of(answer) == 300
        assert answer.headers["viral-session-ignored"] == "malformed"


async def test_a_read_advances_the_token_and_one_that_shows_nothing_new_says_nothing() -> None:
    async with user(Cluster(view(500))) as client:
        assert position_of(await client.get("/read/400")) == 400
        # The cookie of the answer before is sent along.
        for path in ("/read/90", "/", "/health"):
            answer = await client.get(path)
            assert "viral-session" not in answer.headers
            assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("base", "headers", "secure"),
    [
        ("https://app.example", {}, True),
        ("http://app.example", {}, True),
        ("http://127.0.0.1:8080", {}, False),
        ("http://localhost", {}, False),
        ("http://[::1]:8080", {}, False),
        ("http://127.0.0.1:8080", {"x-forwarded-proto": "https"}, True),
        ("https://localhost", {}, True),
        ("http://127.0.0.1.example", {}, True),
    ],
)
async def test_the_cookie_is_closed_to_scripts_and_sent_over_tls_but_on_ones_own_machine(
    base: str, headers: dict[str, str], *, secure: bool
) -> None:
    async with user(Cluster(view(500)), base=base) as client:
        cookie = (await client.get("/read/5", headers=headers)).headers["set-cookie"]
    assert cookie.startswith("viral-session=2.")
    parts = set(cookie.split("; ")[1:])
    wanted = {"Path=/", "Max-Age=900", "HttpOnly", "SameSite=Lax"}
    assert parts == wanted | ({"Secure"} if secure else set())


async def test_a_write_is_replayed_whatever_its_token_and_sets_none() -> None:
    async with user(Cluster(view(1))) as client:
        answer = await client.post("/read/9", headers={"viral-session": token(900)})
    assert answer.headers["viral-route"] == "replay; reason=write"
    assert "viral-session" not in answer.headers
    assert "set-cookie" not in answer.headers


async def test_an_answer_with_an_error_advances_the_token_as_well() -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        await reads_at(50)
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with user(Cluster(view(500)), inner=fails) as client:
        assert position_of(await client.get("/")) == 50


async def test_an_app_never_sees_a_client_say_why_a_token_was_ignored() -> None:
    seen: list[bytes] = []

    async def notes(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(name for name, _ in scope["headers"])
        await app(scope, receive, send)

    async with user(Cluster(view(1)), inner=notes) as client:
        await client.get("/", headers={"viral-session-ignored": "x", "viral-session": "y"})
    assert b"viral-session-ignored" not in seen
    assert b"viral-session" in seen


async def test_an_answer_from_what_must_not_be_used_is_replaced_whole() -> None:
    async def reads_in_vain(scope: Scope, receive: Receive, send: Send) -> None:
        bound = current_route()
        assert bound
        bound.must_not_answer(ReplicaUnavailableError("it lacks what was seen"))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"old"})

    async with user(Cluster(view(500)), inner=reads_in_vain) as client:
        answer = await client.get("/")
    assert answer.status_code == 503
    assert "it lacks what was seen" in answer.text
    assert "old" not in answer.text
    assert answer.headers["viral-route"] == "local; reason=replica"
