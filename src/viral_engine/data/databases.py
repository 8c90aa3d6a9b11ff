from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from types import TracebackType
from typing import Self, TypeVar

import psycopg
from psycopg.rows import BaseRowFactory, DictRow, dict_row
from psycopg_pool import PoolTimeout

from viral_engine.cluster import ClusterView, DatabaseAddresses
from viral_engine.data.commit import committed
from viral_engine.data.decide import Need, Route, RouteKind, decide
from viral_engine.data.pools import Connection, LazyPool
from viral_engine.data.positions import Position, after_read, covers
from viral_engine.data.request import RequestRoute, current_route
from viral_engine.data.statements import read_statements
from viral_engine.data.token import SessionToken, TokenKind
from viral_engine.errors import (
    DatabaseError,
    NoPrimaryError,
    ReplicaUnavailableError,
    UnknownOutcomeError,
)

__all__ = ["Databases"]

T = TypeVar("T")

POOL_SIZE = 10


class Databases:
    """Lends connections for reading near and writing at the primary.

    Inside a request every read and write advances its session by the position of the node that
    did it, asked after the last statement and never remembered from before.
    No connection is made before the first loan, so a machine starts without any database. The
    pools belong to this object and are closed when it is left.
    """

    def __init__(
        self,
        addresses: DatabaseAddresses,
        *,
        here: str,
        machine: str,
        view: Callable[[], ClusterView],
        pool_size: int = POOL_SIZE,
    ) -> None:
        self._here = here
        self._view = view
        self._sql = read_statements("viral_engine.data", "positions.sql")
        self._near = _pool(addresses.nodes.get(here), f"viral-near {machine}", pool_size)
        self._far = _pool(addresses.primary, f"viral-far {machine}", pool_size)
        self._primary = _pool(
            addresses.primary, f"viral-write {machine}", pool_size, read_only=False
        )
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for pool in (self._near, self._far, self._primary):
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

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """Lend a read-only connection to this region's node, or to the primary where that is gone.

        Every statement is a read-only transaction of its own; open one with ``transaction()`` where
        several must see the same moment. Raises ReplicaUnavailableError when nobody can be read.
        In a request the position costs one more round trip, which ``select`` saves.
        """
        bound = current_route()
        asked = bound.session.token if bound else None
        async with self._lent(bound) as connection:
            yield connection
            if bound:
                position = connection.cursor(row_factory=dict_row)
                await position.execute(self._sql["after_read"])
                await self._saw_read(bound, asked, connection, position)

    async def select(
        self,
        query: bytes,
        values: Mapping[str, object],
        *,
        row_factory: BaseRowFactory[T],
    ) -> Sequence[T]:
        """Return the rows of one statement; it and the position travel in one round trip.

        Raises ReplicaUnavailableError when nobody can be read.
        """
        bound = current_route()
        asked = bound.session.token if bound else None
        async with self._lent(bound) as connection:
            rows = connection.cursor(row_factory=row_factory)
            position = connection.cursor(row_factory=dict_row)
            async with connection.pipeline():
                await rows.execute(query, values)
                await position.execute(self._sql["after_read"])
            if bound:
                await self._saw_read(bound, asked, connection, position)
            return await rows.fetchall()

    @asynccontextmanager
    async def _lent(self, bound: RequestRoute | None) -> AsyncIterator[Connection]:
        route = self._read_route(bound)
        async with AsyncExitStack() as loan:
            connection: Connection | None = None
            if route.is_near and self._near:
                connection = await self._near_loan(loan, self._near)
                if connection is None:
                    # The node went away after the decision: decide again, and say so.
                    route = self._near_route(bound.session.token if bound else None)
                    if bound:
                        bound.route = route
            if connection is None:
                connection = await self._far_or_covered_loan(loan, route, bound)
            try:
                yield connection
            except psycopg.OperationalError as error:
                raise ReplicaUnavailableError(_first_line(error)) from error

    def _read_route(self, bound: RequestRoute | None) -> Route:
        if bound is None:
            return self._near_route(None)
        if bound.session.wrote and bound.route.may_be_old:
            # The replica cannot have it yet; whoever has written stays where that was.
            bound.route = Route(RouteKind.PRIMARY, "written-before", self._view().primary_region)
        return bound.route

    async def _saw_read(
        self,
        bound: RequestRoute,
        asked: SessionToken | None,
        connection: Connection,
        cursor: psycopg.AsyncCursor[DictRow],
    ) -> None:
        row = await cursor.fetchone()
        node = self._view().node(self._here) if bound.route.is_near else None
        position = row and after_read(row, known_timeline=node.timeline if node else None)
        if not position:
            raise ReplicaUnavailableError("The database that was read has no position yet.")
        cluster = await self._cluster_of(connection)
        if asked and asked.cluster == cluster and not covers(position, asked):
            # It changed between the decision and the read: rebuilt, or cut from its branch.
            raise ReplicaUnavailableError(
                "The database that was read does not hold all that this client has seen."
            )
        bound.session.saw(position, cluster=cluster, kind=TokenKind.READ)

    async def _saw_write(self, connection: Connection, position: Position) -> None:
        bound = current_route()
        if bound:
            cluster = await self._cluster_of(connection)
            bound.session.saw(position, cluster=cluster, kind=TokenKind.WRITE)

    async def _cluster_of(self, connection: Connection) -> int:
        known = self._view().cluster
        if known is not None:
            return known
        # Nobody that is watched answers, yet this connection does: ask it.
        cursor = await connection.execute(self._sql["cluster"])
        row = await cursor.fetchone()
        return int(row[0]) if row else 0

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Connection]:
        """Lend a connection to the primary in a transaction, committed when the block ends well.

        Raises NoPrimaryError when nobody takes writes, which leaves nothing behind, and
        UnknownOutcomeError when the connection broke while the commit was on its way, or the
        commit may have succeeded and only its position could not be asked.
        """
        if not self._primary:
            raise NoPrimaryError("DATABASE_URL is not set, so there is nowhere to write.")
        committing = False
        position: Position | None = None

        def sent() -> None:
            nonlocal committing
            committing = True

        def answered(at: Position) -> None:
            nonlocal position
            position = at

        try:
            async with self._primary.connection() as connection:
                transaction = committed(connection, self._sql, committing=sent, done=answered)
                async with transaction:
                    yield connection
                if position:
                    await self._saw_write(connection, position)
        except (psycopg.errors.ReadOnlySqlTransaction, PoolTimeout) as error:
            raise NoPrimaryError(_first_line(error)) from error
        except psycopg.Error as error:
            if committing and not _is_rolled_back(error):
                raise UnknownOutcomeError from error
            if committing or not _connection_is_gone(error):
                raise
            raise NoPrimaryError(_first_line(error)) from error

    def _near_route(self, token: SessionToken | None) -> Route:
        return decide(Need.NEAR, here=self._here, view=self._view(), token=token, waited=True)

    async def _near_loan(self, loan: AsyncExitStack, pool: LazyPool) -> Connection | None:
        try:
            return await loan.enter_async_context(pool.connection())
        except PoolTimeout as error:
            node = self._view().node(self._here)
            if node is not None and node.reachable:
                # The node is there and all its connections are out: the primary must not inherit
                # the load of a region that has too much of it.
                raise ReplicaUnavailableError(
                    "Every connection to this region's database is in use."
                ) from error
            return None

    async def _far_or_covered_loan(
        self, loan: AsyncExitStack, route: Route, bound: RequestRoute | None
    ) -> Connection:
        try:
            return await self._far_loan(loan, route)
        except ReplicaUnavailableError:
            # The primary is gone and the view does not know yet: what this region's replica
            # covers by itself it may serve.
            alone = replace(self._view(), primary_region=None)
            token = bound.session.token if bound else None
            again = decide(Need.NEAR, here=self._here, view=alone, token=token, waited=True)
            if bound is None or not (again.is_near and self._near):
                raise
            connection = await self._near_loan(loan, self._near)
            if connection is None:
                raise
            bound.route = again
            return connection

    async def _far_loan(self, loan: AsyncExitStack, route: Route) -> Connection:
        if route.kind is RouteKind.DEGRADED or not self._far:
            raise ReplicaUnavailableError("No database that could be read answers at the moment.")
        try:
            return await loan.enter_async_context(self._far.connection())
        except PoolTimeout as error:
            raise ReplicaUnavailableError(
                "Neither this region's database nor the primary can be reached."
            ) from error


def _pool(url: str | None, name: str, size: int, *, read_only: bool = True) -> LazyPool | None:
    return None if url is None else LazyPool(url, name=name, read_only=read_only, size=size)


def _is_rolled_back(error: psycopg.Error) -> bool:
    # What a commit itself refuses: constraints, conflicts, and what triggers raise. Anything else
    # may come from the question after it.
    return error.sqlstate is not None and error.sqlstate.startswith(("23", "40", "P0"))


def _connection_is_gone(error: psycopg.Error) -> bool:
    if not isinstance(error, psycopg.OperationalError):
        return False
    # Without a state the socket broke; 08 is a connection exception, 57P a server going down.
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else DatabaseError.__doc__ or ""
