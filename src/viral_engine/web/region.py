from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from viral_engine.clock import Deadline
from viral_engine.data import (
    Need,
    RequestRoute,
    Route,
    RouteKind,
    TokenSigner,
    WatchesCluster,
    decide,
    route_read,
    routed,
)
from viral_engine.web.asgi import App, Message, Receive, Scope, Send, drain
from viral_engine.web.headers import REPLAY_SOURCE, header, replay_fields, without_internal
from viral_engine.web.problem import send_problem
from viral_engine.web.session import OpenedSession, SessionTokens
from viral_engine.web.signing import ReplaySigner

__all__ = ["Place", "RegionMiddleware", "need_of_method"]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
DEFAULT_HOLD = timedelta(seconds=2)
DEFAULT_WAIT_BUDGET = timedelta(seconds=2)
DEFAULT_DEADLINE = timedelta(seconds=15)
RETRY_AFTER_S = 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where this process runs, as answers name it."""

    region: str
    machine: str


def need_of_method(scope: Scope) -> Need:
    """Return PRIMARY for the HTTP methods that change something, NEAR for the rest and sockets."""
    if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
        return Need.PRIMARY
    return Need.NEAR


class RegionMiddleware:
    """Decides once, before the handler, in which region a request is served, and says so.

    Every answer names ``viral-region``, ``viral-machine`` and ``viral-route``
    (``local; reason=replica``), and one from a replica ``viral-staleness``: its lag in seconds when
    last asked, at most 3 s ago, or ``unknown``. What needs the primary of another region is answered 409 with
    ``fly-replay``; without any primary it is held for ``hold`` and then answered 503 with
    ``retry-after``. Paths in ``process_local`` are served by this process whatever the cluster is.

    ``tokens`` signs what a client has seen (``viral-session``, header and cookie). A read waits up to
    ``wait_budget`` for a replica that is behind its token, and up to ``deadline`` where nobody
    covers it; a process that is given none of its own signs tokens that no other accepts.
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
    ) -> None:
        self._app = app
        self._place = place
        self._cluster = cluster
        self._signer = signer
        self._need = need
        self._process_local = process_local
        self._hold = hold
        self._tokens = SessionTokens(tokens or TokenSigner(None))
        self._wait_budget = wait_budget
        self._deadline = deadline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        replayed = self._was_replayed(scope)
        scope = {**scope, "headers": without_internal(scope["headers"])}
        opened = self._tokens.open(scope, self._cluster.view)
        route = await self._decide(scope, opened, replayed=replayed)
        with routed(route, opened.session) as bound:
            said = self._saying(scope, bound, opened, send)
            if route.kind is RouteKind.REPLAY and route.region is not None:
                await self._replay(scope, receive, said, route.region)
            elif route.kind is RouteKind.DEGRADED and self._need(scope) is Need.PRIMARY:
                await self._refuse(scope, said, route)
            else:
                await self._app(scope, receive, said)

    async def _decide(self, scope: Scope, opened: OpenedSession, *, replayed: bool) -> Route:
        if scope["path"] in self._process_local:
            return Route(RouteKind.LOCAL, "process", self._place.region)
        need = self._need(scope)
        if need is Need.NEAR:
            return await route_read(
                self._cluster,
                here=self._place.region,
                token=opened.session.token,
                budget=self._wait_budget,
                deadline=Deadline.after(self._deadline),
            )
        view = self._cluster.view
        if view.primary_region is None:
            view = await self._cluster.wait_for(
                lambda seen: seen.primary_region is not None, timeout=self._hold
            )
        return decide(need, here=self._place.region, view=view, replayed=replayed)

    def _was_replayed(self, scope: Scope) -> bool:
        source = header(scope["headers"], REPLAY_SOURCE)
        state = replay_fields(source).get("state", "") if source else ""
        return self._signer.region_of(state) is not None

    async def _replay(self, scope: Scope, receive: Receive, send: Send, region: str) -> None:
        if scope["type"] == "http" and not await drain(scope, receive):
            await send_problem(
                scope,
                send,
                status=413,
                code="body-too-large",
                detail="A body of more than 1 MiB cannot be handed to the primary's region.",
                headers={"connection": "close"},
            )
            return
        await send_problem(
            scope,
            send,
            status=409,
            code="replay",
            detail=f"This request is served in {region}; the platform's proxy takes it there.",
            headers={"fly-replay": f"region={region};state={self._signer.sign(region)}"},
        )

    async def _refuse(self, scope: Scope, send: Send, route: Route) -> None:
        detail = "No primary takes writes at the moment."
        if route.region is not None:
            detail = f"The primary moved to {route.region} while this request was on its way."
        await send_problem(
            scope,
            send,
            status=503,
            code=route.reason,
            detail=detail,
            headers={"retry-after": str(RETRY_AFTER_S)},
        )

    def _staleness(self, route: Route) -> list[tuple[bytes, bytes]]:
        if not route.may_be_old:
            return []
        node = self._cluster.view.node(self._place.region)
        lag = None if node is None else node.lag_seconds
        return [(b"viral-staleness", b"unknown" if lag is None else f"{lag:.3f}".encode())]

    def _saying(self, scope: Scope, bound: RequestRoute, opened: OpenedSession, send: Send) -> Send:
        async def said(message: Message) -> None:
            if message["type"] in {
                "http.response.start",
                "websocket.http.response.start",
                "websocket.accept",
            }:
                message = {
                    **message,
                    "headers": [
                        *message.get("headers", ()),
                        (b"viral-region", self._place.region.encode()),
                        (b"viral-machine", self._place.machine.encode()),
                        (b"viral-route", str(bound.route).encode()),
                        *self._staleness(bound.route),
                        *self._tokens.headers(opened, scope),
                    ],
                }
            await send(message)

        return said
