from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

from viral_engine.clock import Deadline
from viral_engine.cluster import ClusterView
from viral_engine.data.decide import Need, Route, RouteKind, decide
from viral_engine.data.request import RequestRoute, routed
from viral_engine.data.session import Session
from viral_engine.data.token import SessionToken
from viral_engine.lsn import Lsn
from viral_engine.topology.model import Consistency

__all__ = ["Router", "WatchesCluster", "need_of", "route_read"]

DEFAULT_WAIT_BUDGET = timedelta(seconds=2)
DEFAULT_DEADLINE = timedelta(seconds=15)
"""Longer than a failover takes."""
DEFAULT_HOLD = DEFAULT_DEADLINE


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


class Router:
    """Decides for each request, message or job of this region where it is served.

    ``wait_budget`` bounds the wait for a replica, ``hold`` that for a primary of what needs one,
    and ``deadline`` that for anybody who covers what the client has seen.
    """

    def __init__(
        self,
        cluster: WatchesCluster,
        *,
        here: str,
        wait_budget: timedelta = DEFAULT_WAIT_BUDGET,
        hold: timedelta = DEFAULT_HOLD,
        deadline: timedelta = DEFAULT_DEADLINE,
    ) -> None:
        self.cluster = cluster
        self.here = here
        self._wait_budget = wait_budget
        self._hold = hold
        self._deadline = deadline

    async def route(
        self, need: Need, session: Session, *, replayed: bool = False, movable: bool = True
    ) -> Route:
        """Return the route of one piece of work, waiting within the limits where that can help."""
        if need is Need.NEAR:
            session.settle(self.cluster.view)
            first = decide(
                need, here=self.here, view=self.cluster.view, token=session.token,
                replayed=replayed, movable=movable,
            )  # fmt: skip
            if first.kind is RouteKind.LOCAL:
                return first  # most of all reads: nothing to wait for, and no deadline to make
            return await route_read(
                self.cluster,
                here=self.here,
                session=session,
                budget=self._wait_budget,
                deadline=Deadline.after(self._deadline),
                movable=movable and not replayed,
            )
        view = self.cluster.view
        if view.writable_region is None:
            view = await self.cluster.wait_for(
                lambda seen: seen.writable_region is not None, timeout=self._hold
            )
        session.settle(view)
        return decide(need, here=self.here, view=view, replayed=replayed, movable=movable)

    async def route_again(
        self,
        need: Need,
        session: Session,
        *,
        since: float,
        deadline: Deadline,
        movable: bool = False,
    ) -> Route:
        """Return a route that was not known at ``since``, the time of a failure, monotonic.

        It waits until the node that it leads to has answered after that; degraded where none has by
        the deadline.
        """

        def decided(view: ClusterView) -> Route:
            return decide(
                need, here=self.here, view=view, token=session.token, waited=True, movable=movable
            )

        def is_new(view: ClusterView) -> bool:
            route = decided(view)
            node = None if route.region is None else view.node(route.region)
            if route.kind is RouteKind.DEGRADED or node is None or node.observed_at is None:
                return False
            return node.observed_at > since

        view = await self.cluster.wait_for(is_new, timeout=deadline.remaining())
        session.settle(view)
        return decided(view) if is_new(view) else Route(RouteKind.DEGRADED, "no-primary")

    @asynccontextmanager
    async def work(
        self,
        session: Session | None = None,
        *,
        need: Need = Need.NEAR,
        consistency: Consistency = Consistency.EVENTUAL,
    ) -> AsyncIterator[RequestRoute]:
        """Run the block as one piece of work that no request brought: a job, or a timer.

        It has the rules of a request and stays in this region. With the ``session`` of whoever
        asked for it, it sees what that one had seen; nothing is kept for the next piece of work.
        """
        session = session or Session()
        route = await self.route(need_of(need, consistency), session, movable=False)
        with routed(route, session, need=need, consistency=consistency) as bound:
            yield bound


def need_of(need: Need, consistency: Consistency) -> Need:
    """Return what work needs that reads or writes a resource of ``consistency``."""
    return Need.STRONG if need is Need.NEAR and consistency.is_strong else need


async def route_read(
    cluster: WatchesCluster,
    *,
    here: str,
    session: Session,
    budget: timedelta,
    deadline: Deadline,
    movable: bool = False,
) -> Route:
    """Return where a read is served, waiting for what the session's token asks where that can help.

    A replica that is behind is given ``budget``, and never more than the deadline. What no node
    covers while nobody is primary is held to the deadline. What a failover took from the client is
    noted in the session.
    """
    session.settle(cluster.view)
    token = session.token
    first = route = decide(Need.NEAR, here=here, view=cluster.view, token=token, movable=movable)
    if token is None:
        return first
    waited, began = False, deadline.clock.monotonic()
    if first.kind is RouteKind.WAIT:
        waited = await cluster.wait_until_replayed(
            here,
            timeline=token.timeline,
            lsn=token.position,
            timeout=min(budget, deadline.remaining()),
        )
        route = _decide_again(cluster.view, here, session, movable=movable)
    if route.kind is RouteKind.DEGRADED:
        view = await cluster.wait_for(
            lambda seen: _serves(seen, here, token, movable=movable), timeout=deadline.remaining()
        )
        route = _decide_again(view, here, session, movable=movable)
    # The view is up to a second old: often the replica had it, and nobody waited.
    if waited and route.kind is RouteKind.LOCAL and route.may_be_old:
        return replace(first, waited_s=deadline.clock.monotonic() - began)
    return route


def _decide_again(view: ClusterView, here: str, session: Session, *, movable: bool) -> Route:
    session.settle(view)
    return decide(
        Need.NEAR, here=here, view=view, token=session.token, waited=True, movable=movable
    )


def _serves(view: ClusterView, here: str, token: SessionToken, *, movable: bool) -> bool:
    route = _decide_again(view, here, Session(token), movable=movable)
    return route.kind is not RouteKind.DEGRADED
