from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from viral_engine.clock import Deadline
from viral_engine.cluster import ClusterView
from viral_engine.data.decide import Need, Route, RouteKind, decide
from viral_engine.data.token import SessionToken
from viral_engine.lsn import Lsn

__all__ = ["WatchesCluster", "route_read"]


class WatchesCluster(Protocol):
    """What is needed of the cluster room to decide, and to wait for a better decision."""

    @property
    def view(self) -> ClusterView:
        """The view at this moment."""

    async def wait_for(
        self, holds: Callable[[ClusterView], bool], *, timeout: timedelta
    ) -> ClusterView:
        """Return the first view that holds, or the last one when time ran out."""

    async def wait_until_replayed(
        self, region: str, *, timeline: int, lsn: Lsn, timeout: timedelta
    ) -> bool:
        """Return when the view has the replica there, or without hope; True if that took a wait."""


async def route_read(
    cluster: WatchesCluster,
    *,
    here: str,
    token: SessionToken | None,
    budget: timedelta,
    deadline: Deadline,
) -> Route:
    """Return where a read is served, waiting for what ``token`` asks where that can help.

    A replica that is behind is given ``budget``, and never more than the deadline. What no node
    covers while nobody is primary is held to the deadline.
    """
    first = route = decide(Need.NEAR, here=here, view=cluster.view, token=token)
    if token is None:
        return first
    waited = False
    if first.kind is RouteKind.WAIT:
        waited = await cluster.wait_until_replayed(
            here,
            timeline=token.timeline,
            lsn=token.position,
            timeout=min(budget, deadline.remaining()),
        )
        route = decide(Need.NEAR, here=here, view=cluster.view, token=token, waited=True)
    if route.kind is RouteKind.DEGRADED:
        view = await cluster.wait_for(
            lambda seen: _serves(seen, here, token), timeout=deadline.remaining()
        )
        route = decide(Need.NEAR, here=here, view=view, token=token, waited=True)
    # The view is up to a second old: often the replica had it, and nobody waited.
    return first if waited and route.kind is RouteKind.LOCAL and route.may_be_old else route


def _serves(view: ClusterView, here: str, token: SessionToken) -> bool:
    route = decide(Need.NEAR, here=here, view=view, token=token, waited=True)
    return route.kind is not RouteKind.DEGRADED
