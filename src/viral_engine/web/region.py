from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from viral_engine.data import (
    Detour,
    Need,
    RequestRoute,
    Route,
    RouteKind,
    Router,
    TokenSigner,
    WatchesCluster,
    need_of,
    routed_as,
)
from viral_engine.data.router import DEFAULT_DEADLINE, DEFAULT_HOLD, DEFAULT_WAIT_BUDGET
from viral_engine.errors import DatabaseError
from viral_engine.observe import Listener
from viral_engine.topology.model import Sticky
from viral_engine.web.again import Again, KeptBody, may_repeat
from viral_engine.web.answers import AnswerHeaders
from viral_engine.web.asgi import (
    App,
    Message,
    Receive,
    Scope,
    Send,
    may_have_body,
)
from viral_engine.web.declared import Declarations
from viral_engine.web.headers import sorted_out
from viral_engine.web.once import KeepsFirstAnswers, Once, received_again
from viral_engine.web.problem import Problem, database_problem, send_problem
from viral_engine.web.replays import Replays
from viral_engine.web.session import SessionTokens
from viral_engine.web.signing import ReplaySigner
from viral_engine.web.sticky import STICKY, Homes
from viral_engine.web.visit import Place, Visit, need_of_method, no_tenant

__all__ = ["Place", "RegionMiddleware", "need_of_method"]

_DETOURS = frozenset(Detour)
_STARTS = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})

_BAD_CONSISTENCY = Problem(
    400,
    "unknown-consistency",
    "viral-consistency is not one of eventual, strong, strict.",
    (),
)


class RegionMiddleware:
    """Decides once, before the handler, in which region a request is served, and says so.

    Every answer names ``viral-region``, ``viral-machine`` and ``viral-route``
    (``local; reason=replica``), and one from a replica ``viral-staleness``: its lag in seconds when
    last asked, at most 3 s ago, or ``unknown``. What needs the primary of another region is answered 409 with
    ``fly-replay``; without any primary it is held for ``hold`` and then answered 503 with
    ``retry-after``. What a database failed before anything was done is held as long and served anew
    where the primary is then. Paths in ``process_local`` are served by this process whatever the cluster is.

    ``declared`` says which paths are strong: their reads go to the primary as their writes do.
    ``tokens`` signs what a client has seen (``viral-session``, header and cookie), for its
    ``tenant``. A read waits up to ``wait_budget`` for a replica that is behind its token, and up to
    ``deadline`` where nobody covers it; a process that is given no tokens of its own signs some that
    no other accepts. ``first_answers`` keeps what a request with ``idempotency-key`` was answered;
    without it that header means nothing. A socket is routed anew with each message that comes in.
    ``listener`` is told how each request was answered. ``sticky`` says what a session keeps to: a read that arrives elsewhere is handed to its home once.
    """

    def __init__(
        self,
        app: App,
        *,
        place: Place,
        cluster: WatchesCluster,
        signer: ReplaySigner,
        need: Callable[[Scope], Need] = need_of_method,
        process_local: frozenset[str] = frozenset({"/api/health"}),
        hold: timedelta = DEFAULT_HOLD,
        tokens: TokenSigner | None = None,
        wait_budget: timedelta = DEFAULT_WAIT_BUDGET,
        deadline: timedelta = DEFAULT_DEADLINE,
        declared: Declarations | None = None,
        tenant: Callable[[Scope], str] = no_tenant,
        first_answers: KeepsFirstAnswers | None = None,
        sticky: Sticky = Sticky.OFF,
        listener: Listener | None = None,
    ) -> None:
        self._app = app
        self._place = place
        self._cluster = cluster
        self._need = need
        self._process_local = process_local
        self._tokens = SessionTokens(tokens or TokenSigner(None))
        self._declared = declared or Declarations({})
        self._tenant = tenant
        self._homes = Homes(sticky, region=place.region, machine=place.machine)
        self._replays = Replays(signer, self._homes)
        self._once = Once(app, first_answers) if first_answers else None
        self._router = Router(
            cluster, here=place.region, wait_budget=wait_budget, hold=hold, deadline=deadline
        )
        self._again = Again(self._router, hold=hold)
        self._answers = AnswerHeaders(
            place=place, cluster=cluster, tokens=self._tokens, homes=self._homes, listener=listener
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        incoming, home = sorted_out(scope["headers"]), self._homes.sent(scope["headers"])
        if incoming.passed_on is not scope["headers"]:
            scope = {**scope, "headers": incoming.passed_on}
        replay = self._replays.of(incoming)
        need = self._need(scope)
        again = replay is not None and replay.reason in _DETOURS
        opened = self._tokens.open(
            incoming, self._cluster.view, scheme=scope.get("scheme") or "http",
            tenant=self._tenant(scope),
        )  # fmt: skip
        consistency = self._declared.of(scope["path"], incoming.consistency)
        if consistency is None:
            await send_problem(scope, send, _BAD_CONSISTENCY)
            return
        visit = Visit(
            scope, incoming, opened,
            Need.PRIMARY if again else need_of(need, consistency), replay, home,
        )  # fmt: skip
        # A socket that only reads something strong stays near its user.
        route = await self._route(visit, movable=visit.is_http or visit.need is Need.PRIMARY)
        bound = RequestRoute(
            route, opened.session, need=visit.need, consistency=consistency, writes_anyway=again
        )
        with routed_as(bound):
            await self._serve(visit, bound, receive, self._saying(visit, bound, send))

    async def _route(self, visit: Visit, *, movable: bool) -> Route:
        if visit.scope["path"] in self._process_local:
            return Route(RouteKind.LOCAL, "process", self._place.region)
        if movable and visit.may_go_home:
            visit.goes_home = self._homes.elsewhere(visit.home, self._cluster.view)
            if visit.goes_home is not None:
                return Route(RouteKind.REPLAY, STICKY, visit.goes_home.region)
        return await self._router.route(
            visit.need,
            visit.opened.session,
            replayed=visit.is_at_its_end,
            movable=movable,
        )

    async def _serve(self, visit: Visit, bound: RequestRoute, receive: Receive, said: Send) -> None:
        route = bound.route
        if route.kind is RouteKind.REPLAY:
            await self._replays.hand_over(visit, receive, said, route)
        elif route.kind is RouteKind.DEGRADED and visit.need is not Need.NEAR:
            await self._refuse(visit, said, route)
        elif not visit.is_http:
            await self._app(visit.scope, self._routed_again(visit, bound, receive), said)
        elif may_have_body(visit.scope):
            body = KeptBody(receive)
            await self._attempt(visit, bound, body.receive, said)
            if visit.is_held:
                await self._attempt_again(visit, bound, body, said)
        else:
            await self._attempt(visit, bound, receive, said)
            if visit.is_held:
                await self._attempt_again(
                    visit, bound, KeptBody(received_again(b"", receive)), said
                )

    async def _attempt(
        self, visit: Visit, bound: RequestRoute, receive: Receive, said: Send
    ) -> None:
        """Serve it here; where a database failed it and it may be repeated it is held instead."""
        visit.attempts += 1
        try:
            await self._serve_here(visit, bound, receive, said)
        except Exception:
            if not may_repeat(visit, bound):
                raise
            visit.is_held = True

    async def _attempt_again(
        self, visit: Visit, bound: RequestRoute, body: KeptBody, said: Send
    ) -> None:
        """Serve it anew as often as that can help, until the hold is over; then say what failed."""
        deadline = self._again.deadline()
        while visit.is_held and (fault := bound.fault) is not None:
            route = None
            if body.is_whole:
                route = await self._again.route(visit, bound, fault, deadline)
            visit.is_held = visit.is_dropped = False
            if route is None:
                visit.is_last = True
                await send_problem(visit.scope, said, database_problem(fault))
                return
            bound.begin_again(route)
            if route.kind is RouteKind.REPLAY:
                await self._replays.hand_over(visit, body.again(), said, route)
            else:
                await self._attempt(visit, bound, body.again(), said)

    async def _serve_here(
        self, visit: Visit, bound: RequestRoute, receive: Receive, said: Send
    ) -> None:
        if visit.need is not Need.PRIMARY:
            await self._read(visit, bound, receive, said)
        elif self._once and visit.incoming.idempotency_key is not None:
            await self._once.serve(
                visit.scope, receive, said, bound=bound,
                text=visit.incoming.idempotency_key, tenant=visit.opened.tenant,
            )  # fmt: skip
        else:
            await self._app(visit.scope, receive, said)

    async def _read(self, visit: Visit, bound: RequestRoute, receive: Receive, said: Send) -> None:
        """Serve a read; one that the database refused for what it does here goes on a detour.

        That happens before any of the answer is sent, and nothing was written: the handler's own
        answer to the refusal is dropped.
        """
        try:
            await self._app(visit.scope, receive, said)
        except Exception:
            # Whatever the app made of it, it began with what the database refused.
            if not bound.detour or self._detour_region(visit, bound) is None:
                raise
            visit.is_dropped = True
        region = None
        if visit.is_dropped and not visit.is_held:
            region = self._detour_region(visit, bound)
        if region is not None and bound.detour:
            bound.route = Route(RouteKind.REPLAY, bound.detour, region)
            bound.detour, visit.is_dropped = None, False
            await self._replays.hand_over(visit, None, said, bound.route)

    def _detour_region(self, visit: Visit, bound: RequestRoute) -> str | None:
        if visit.need is Need.PRIMARY or not visit.is_http or visit.is_at_its_end:
            return None
        if may_have_body(visit.scope) or bound.session.wrote or visit.has_begun:
            return None
        return self._cluster.view.writable_region

    def _routed_again(self, visit: Visit, bound: RequestRoute, receive: Receive) -> Receive:
        async def received() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive":
                # Each message is a request of its own: it keeps what was seen, and no pin.
                bound.session.wrote = False
                bound.route = await self._route(visit, movable=False)
            return message

        return received

    async def _refuse(self, visit: Visit, send: Send, route: Route) -> None:
        detail = "No primary takes writes at the moment."
        if route.region is not None:
            detail = f"The primary moved to {route.region} while this request was on its way."
        await send_problem(visit.scope, send, Problem(503, route.reason, detail))

    def _saying(self, visit: Visit, bound: RequestRoute, send: Send) -> Send:
        def begun(message: Message) -> Message:
            visit.has_begun = True
            headers = [*message.get("headers", ()), *self._answers.of(visit, bound)]
            return {**message, "headers": headers}

        async def said(message: Message) -> None:
            if message["type"] in _STARTS:
                if bound.detour and self._detour_region(visit, bound) is not None:
                    visit.is_dropped = True
                elif message.get("status", 0) >= 500 and may_repeat(visit, bound):
                    visit.is_dropped = visit.is_held = True
                elif bound.has_to_tell and (fault := await _untold(bound)) is not None:
                    # Nobody sees what was read and turned out not to count.
                    bound.forget_untold()
                    await send_problem(visit.scope, said, database_problem(fault))
                    visit.is_dropped = True
                else:
                    message = begun(message)
                bound.is_answered = visit.is_http
            if not visit.is_dropped:
                await send(message)

        return said


async def _untold(bound: RequestRoute) -> DatabaseError | None:
    # Frameworks end a session only when its answer is on the way, and then its token is too.
    try:
        await bound.tell()
    except DatabaseError as fault:
        return fault
    return None
