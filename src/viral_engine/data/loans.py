from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from psycopg_pool import PoolTimeout

from viral_engine.cluster import ClusterView, DatabaseAddresses
from viral_engine.data.decide import Need, Route, RouteKind, decide
from viral_engine.data.pools import Connection, LazyPool, PoolBusy
from viral_engine.data.primary_pools import PrimaryPools
from viral_engine.data.request import RequestRoute
from viral_engine.data.token import SessionToken
from viral_engine.errors import BusyError, ReplicaUnavailableError
from viral_engine.observe import Event, Listener, NodeLost, PrimaryChanged

__all__ = ["Loan", "Loans"]


@dataclass(frozen=True, slots=True)
class Loan:
    """A connection to read by, and whether it leads to this region's own node."""

    connection: Connection
    is_near: bool


class Loans:
    """Lends connections for reading: by ``near`` to this region's node, by ``far`` to the primary.

    What the request's route says is lent, or what is left of it where that is gone; then the route
    is replaced by what was really done.
    """

    def __init__(
        self,
        addresses: DatabaseAddresses,
        *,
        here: str,
        machine: str,
        view: Callable[[], ClusterView],
        pool_size: int,
        listener: Listener | None = None,
    ) -> None:
        self._here = here
        self._view = view
        near = addresses.nodes.get(here)
        self.near = near and LazyPool(
            near, name=f"viral-near {machine}", read_only=True, size=pool_size,
            circuit=f"near {here}", listener=listener,
        )  # fmt: skip
        self.far = PrimaryPools.of(
            addresses, view=view, name=f"viral-far {machine}", read_only=True, size=pool_size,
            listener=listener,
        )  # fmt: skip
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for pool in (self.near, self.far):
            if pool:
                await self._open.enter_async_context(pool)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._open.aclose()

    def note(self, event: Event) -> None:
        """Hear that this region's node is lost, or the primary, and give up what is read there."""
        if isinstance(event, NodeLost) and event.region == self._here and self.near:
            self.near.give_up()
        elif isinstance(event, PrimaryChanged) and event.was is not None and self.far:
            self.far.give_up()

    async def lend(self, stack: AsyncExitStack, bound: RequestRoute | None) -> Loan:
        """Lend until ``stack`` is left; raise ReplicaUnavailableError when nobody can be read."""
        route = self._route(bound)
        if route.is_near and self.near:
            connection = await self._near_loan(stack, self.near)
            if connection is not None:
                return Loan(connection, is_near=True)
            # The view may not know it yet: decide again, and say so.
            without = self._view().without(self._here, reason="takes no connection")
            route = self._decided(without, bound.session.token if bound else None)
            if bound:
                bound.route = route
        return await self._far_or_covered_loan(stack, route, bound)

    def _route(self, bound: RequestRoute | None) -> Route:
        if bound is None:
            return self.near_route(None)
        if bound.session.wrote and bound.route.may_be_old:
            # The replica cannot have it yet; whoever has written stays where that was.
            bound.route = Route(RouteKind.PRIMARY, "written-before", self._view().primary_region)
        return bound.route

    def near_route(self, token: SessionToken | None) -> Route:
        """Return the route of a read that waits for nothing."""
        return self._decided(self._view(), token)

    def _decided(self, view: ClusterView, token: SessionToken | None) -> Route:
        return decide(
            Need.NEAR, here=self._here, view=view, token=token, waited=True, movable=False
        )

    async def _near_loan(self, stack: AsyncExitStack, pool: LazyPool) -> Connection | None:
        try:
            return await stack.enter_async_context(pool.connection())
        except PoolBusy as error:
            # The primary must not inherit the load of a region that has too much of it.
            raise BusyError("Every connection to this region's database is in use.") from error
        except PoolTimeout:
            return None

    async def _far_or_covered_loan(
        self, stack: AsyncExitStack, route: Route, bound: RequestRoute | None
    ) -> Loan:
        try:
            return await self._far_loan(stack, route)
        except ReplicaUnavailableError:
            # The primary is gone and the view does not know yet: what this region's replica
            # covers by itself it may serve.
            alone = replace(self._view(), primary_region=None)
            token = bound.session.token if bound else None
            again = self._decided(alone, token)
            if bound is None or not (again.is_near and self.near):
                raise
            connection = await self._near_loan(stack, self.near)
            if connection is None:
                raise
            bound.route = again
            return Loan(connection, is_near=True)

    async def _far_loan(self, stack: AsyncExitStack, route: Route) -> Loan:
        if route.kind is RouteKind.DEGRADED or not self.far:
            raise ReplicaUnavailableError("No database that could be read answers at the moment.")
        try:
            return Loan(await stack.enter_async_context(self.far.connection()), is_near=False)
        except PoolTimeout as error:
            raise ReplicaUnavailableError(
                "Neither this region's database nor the primary can be reached."
            ) from error
