from __future__ import annotations

from viral_engine.cluster import ClusterView
from viral_engine.data import Need, RequestRoute, RouteKind, WatchesCluster
from viral_engine.observe import Listener, RequestRouted
from viral_engine.web.asgi import RawHeaders
from viral_engine.web.session import SessionTokens
from viral_engine.web.sticky import Homes
from viral_engine.web.visit import Place, Visit

__all__ = ["AnswerHeaders"]

_SERVED = frozenset({RouteKind.LOCAL, RouteKind.WAIT, RouteKind.PRIMARY})


class AnswerHeaders:
    """Says in every answer who served it, by which route, how old it may be and what was seen.

    The same is told to ``listener`` as an event.
    """

    def __init__(
        self,
        *,
        place: Place,
        cluster: WatchesCluster,
        tokens: SessionTokens,
        homes: Homes,
        listener: Listener | None,
    ) -> None:
        self._place = place
        self._cluster = cluster
        self._tokens = tokens
        self._homes = homes
        self._listener = listener
        self._named = (
            (b"viral-region", place.region.encode()),
            (b"viral-machine", place.machine.encode()),
        )
        self._stale: tuple[ClusterView | None, bytes] = (None, b"")

    def of(self, visit: Visit, bound: RequestRoute) -> RawHeaders:
        """Return them at the moment when the answer begins."""
        route = bound.route
        if self._listener is not None:
            self._listener(RequestRouted(route.kind, route.reason, route.region, route.waited_s))
        headers = [*self._named, (b"viral-route", route.header)]
        if route.may_be_old:
            headers.append((b"viral-staleness", self._staleness()))
        if bound.in_one_region:
            headers.append((b"viral-durability", b"one-region"))
        headers += self._tokens.headers(visit.opened)
        sticks = self._homes.is_on and visit.is_http and visit.need is Need.NEAR
        if sticks and route.kind in _SERVED:
            headers += self._homes.headers(visit.home, visit.opened.cookie_flags)
        return headers

    def _staleness(self) -> bytes:
        view, said = self._cluster.view, self._stale
        if said[0] is not view:
            node = view.node(self._place.region)
            lag = None if node is None else node.lag_seconds
            said = self._stale = (view, b"unknown" if lag is None else b"%.3f" % lag)
        return said[1]
