from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from viral_engine.cluster import ClusterView
from viral_engine.data import Need, RequestRoute, Route, RouteKind, decide, routed
from viral_engine.web.asgi import App, Message, Receive, Scope, Send, drain
from viral_engine.web.headers import REPLAY_SOURCE, header, replay_fields, without_internal
from viral_engine.web.problem import send_problem
from viral_engine.web.signing import ReplaySigner

__all__ = ["Place", "RegionMiddleware", "WatchesCluster", "need_of_method"]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
DEFAULT_HOLD = timedelta(seconds=2)
RETRY_AFTER_S = 1


class WatchesCluster(Protocol):
    """What the middleware needs of the cluster room."""

    @property
    def view(self) -> ClusterView:
        """The view at this moment."""

    async def wait_for(
        self, holds: Callable[[ClusterView], bool], *, timeout: timedelta
    ) -> ClusterView:
        """Return the first view that holds, or the last one when time ran out."""


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
    ) -> None:
        self._app = app
        self._place = place
        self._cluster = cluster
        self._signer = signer
        self._need = need
        self._process_local = process_local
        self._hold = hold

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        replayed = self._was_replayed(scope)
        scope = {**scope, "headers": without_internal(scope["headers"])}
        route = await self._decide(scope, replayed=replayed)
        with routed(route) as bound:
            said = self._saying(bound, send)
            if route.kind is RouteKind.REPLAY and route.region is not None:
                await self._replay(scope, receive, said, route.region)
            elif route.kind is RouteKind.DEGRADED and self._need(scope) is Need.PRIMARY:
                await self._refuse(scope, said, route)
            else:
                await self._app(scope, receive, said)

    async def _decide(self, scope: Scope, *, replayed: bool) -> Route:
        if scope["path"] in self._process_local:
            return Route(RouteKind.LOCAL, "process", self._place.region)
        need = self._need(scope)
        view = self._cluster.view
        if need is Need.PRIMARY and view.primary_region is None:
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
        if route.kind is not RouteKind.LOCAL or route.reason != "replica":
            return []
        node = self._cluster.view.node(self._place.region)
        lag = None if node is None else node.lag_seconds
        return [(b"viral-staleness", b"unknown" if lag is None else f"{lag:.3f}".encode())]

    def _saying(self, bound: RequestRoute, send: Send) -> Send:
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
                    ],
                }
            await send(message)

        return said
