from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import BaseRowFactory, dict_row
from psycopg_pool import PoolTimeout

from viral_engine.clock import NotYet, wait_until
from viral_engine.cluster import ClusterView, DatabaseAddresses
from viral_engine.cluster.links import answered_within
from viral_engine.data.asker import SharedQuestion
from viral_engine.data.decide import Route
from viral_engine.data.loans import Loan, Loans
from viral_engine.data.pools import Connection
from viral_engine.data.positions import Position, after_read, asked_position, covers
from viral_engine.data.request import Detour, RequestRoute
from viral_engine.data.shown import ShownCommits
from viral_engine.data.token import SessionToken
from viral_engine.data.writes import first_line, is_gone
from viral_engine.errors import (
    NodeGoneError,
    NoPrimaryError,
    ReplicaUnavailableError,
    WaitTimeoutError,
)
from viral_engine.lsn import Lsn
from viral_engine.observe import Event, Listener

__all__ = ["CONFLICTS", "Loan", "Reads"]

T = TypeVar("T")

WITH_PRIMACY = b"select node.*, viral.primacy_remaining() as primacy_seconds from (%b) as node"
LOOK_ANEW = b"select pg_stat_clear_snapshot(); "
CONFLICTS = psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected
"""How a replica gives a read up; a deadlock is one with the replay of the log, as only reads go on there."""

SHOWN_LIMIT = timedelta(seconds=15)
LOOK_AGAIN = timedelta(milliseconds=5)


class Reads:
    """Lends connections for reading and counts in what they showed.

    ``near`` is this region's node, ``far`` the primary, wherever that is.
    """

    def __init__(
        self,
        addresses: DatabaseAddresses,
        statements: Mapping[str, bytes],
        *,
        here: str,
        machine: str,
        view: Callable[[], ClusterView],
        pool_size: int,
        replayed: Callable[[int, Lsn], None],
        listener: Listener | None = None,
    ) -> None:
        self._here = here
        self._view = view
        self._replayed = replayed
        self._sql = statements
        self._loans = Loans(
            addresses, here=here, machine=machine, view=view, pool_size=pool_size,
            listener=listener,
        )  # fmt: skip
        near = addresses.nodes.get(here)
        self._position = near and SharedQuestion(
            near, statements["after_read"], asked_position, name=f"viral-position {machine}"
        )
        self._shown = ShownCommits()
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._open.enter_async_context(self._loans)
        if self._position:
            await self._open.enter_async_context(self._position)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._open.aclose()

    def note(self, event: Event) -> None:
        """Hear what was seen of the nodes: what is being read at one that is lost fails at once."""
        self._loans.note(event)

    def near_route(self, token: SessionToken | None) -> Route:
        """Return the route of a read that waits for nothing."""
        return self._loans.near_route(token)

    @asynccontextmanager
    async def lent(self, bound: RequestRoute | None) -> AsyncIterator[Loan]:
        """Lend what the request's route says, or what is left of it where that is gone.

        Raises ReplicaUnavailableError when nobody can be read. A refusal that another node would
        not give is noted in the route.
        """
        async with AsyncExitStack() as stack:
            loan = await self._loans.lend(stack, bound)
            try:
                if bound and not bound.route.may_be_old:
                    await self.wait_until_shown(loan, bound)
                yield loan
            except psycopg.Error as error:
                raise _said_of(error, bound, is_near=loan.is_near) from error

    def is_plain(self, bound: RequestRoute) -> bool:
        """Tell whether a read goes to this region's node without anything else to look at."""
        token = bound.session.token
        return (
            self._loans.near is not None
            and bound.route.is_near
            and not (bound.session.wrote and bound.route.may_be_old)
            and (token is None or bound.route.may_be_old or self._shown.holds(token))
            and self._view().cluster is not None
        )

    async def plain_rows(
        self,
        bound: RequestRoute,
        query: bytes,
        values: Mapping[str, object],
        row_factory: BaseRowFactory[T],
    ) -> Sequence[T]:
        """Return the rows of one statement by the shortest way, for what ``is_plain``.

        Raises NodeGoneError where its node has gone, after which it may be read again by the longer
        way, PoolTimeout where no connection is to be had, and else as ``lent``.
        """
        if not self._loans.near or not self._position:
            raise ReplicaUnavailableError("This region has no database of its own.")
        connection = await self._loans.near.borrow(looked_at=False)
        try:
            cursor = connection.cursor(row_factory=row_factory)
            await cursor.execute(query, values)
            rows = await cursor.fetchall()
        except psycopg.Error as error:
            raise _said_of(error, bound, is_near=True) from error
        finally:
            await self._loans.near.give_back(connection)
        self._count_in(
            bound, await self._position.answer(), self._view().cluster or 0, is_near=True
        )
        return rows

    @asynccontextmanager
    async def lent_at_primary(self, bound: RequestRoute | None) -> AsyncIterator[Loan]:
        """Lend a connection to the primary; raise NoPrimaryError where there is none."""
        if not self._loans.far:
            raise NoPrimaryError("DATABASE_URL is not set, so there is no primary to read.")
        try:
            async with self._loans.far.connection() as connection:
                loan = Loan(connection, is_near=False)
                if bound:
                    await self.wait_until_shown(loan, bound)
                yield loan
        except PoolTimeout as error:
            raise NoPrimaryError(first_line(error)) from error
        except psycopg.Error as error:
            if is_gone(error):
                raise NoPrimaryError(first_line(error)) from error
            raise

    async def saw(self, bound: RequestRoute, loan: Loan) -> None:
        """Count in what was read, up to where its node stands now.

        Raises ReplicaUnavailableError where that does not hold what the client had seen: then the
        node was changed for another between the decision and the read.
        """
        cluster = await self.cluster_of(loan.connection)
        self._count_in(bound, await self.position_of(loan), cluster, is_near=loan.is_near)

    async def saw_at_primary(
        self, bound: RequestRoute | None, loan: Loan, *, primacy_is_kept: bool
    ) -> None:
        """Count in a strong read, once its node has shown that it is the primary; outside of a request only that.

        Whoever holds primacy after the read held it when the read was made: the next primary is
        promoted only after it has lapsed. Raises NoPrimaryError where that is not shown.
        """
        question = self._sql["after_read"]
        asked = WITH_PRIMACY % question if primacy_is_kept else question
        row = await _row(loan.connection, asked) or {}
        proven = not primacy_is_kept or (row.get("primacy_seconds") or 0) > 0
        position = after_read(row) if row else None
        if position is None or position.in_recovery or not proven:
            raise NoPrimaryError(
                "The database that was read could not prove that it is the primary."
            )
        if bound:
            self._count_in(bound, position, await self.cluster_of(loan.connection), is_near=False)

    def _count_in(
        self, bound: RequestRoute, position: Position, cluster: int, *, is_near: bool
    ) -> None:
        node = self._view().node(self._here) if is_near and position.in_recovery else None
        if node and node.timeline and node.timeline > position.timeline:
            # One that streams no more tells only its last checkpoint's.
            position = replace(position, timeline=node.timeline)
        self._shown.note(position)
        if is_near and position.in_recovery:
            self._replayed(position.timeline, position.lsn)
        asked = bound.session.token
        if asked and asked.cluster == cluster and not covers(position, asked):
            raise ReplicaUnavailableError(
                "The database that was read does not hold all that this client has seen."
            )
        bound.session.read_at(position, cluster=cluster)

    async def cluster_of(self, connection: Connection) -> int:
        """Return the cluster's identifier: what is known of it, else what this connection says."""
        known = self._view().cluster
        if known is not None:
            return known
        cursor = await connection.execute(self._sql["cluster"])
        row = await cursor.fetchone()
        return int(row[0]) if row else 0

    async def wait_until_shown(self, loan: Loan, bound: RequestRoute) -> None:
        """Return once a primary shows what this client has read at a standby, at most 15 s later.

        That may have shown it a commit that still waits for a standby at the primary. Outside of a
        transaction that does anything else.
        """
        token = bound.session.token
        if token is None or self._shown.holds(token):
            return

        async def is_shown() -> bool | NotYet:
            position = await self.position_of(loan)
            if position.in_recovery or position.lsn < token.ahead:
                return True  # no primary, or one that lost it: waiting cannot help
            self._shown.note(position)
            return self._shown.holds(token) or NotYet(f"{position.waiting} commits wait")

        what = "commits that this client saw at a standby to be shown at the primary"
        # A little later than the wait itself, whose error says more.
        limit = SHOWN_LIMIT.total_seconds() + 1
        try:
            with answered_within(loan.connection, limit):
                await wait_until(
                    is_shown, timeout=SHOWN_LIMIT, interval=LOOK_AGAIN, waiting_for=what
                )
        except (WaitTimeoutError, TimeoutError) as error:
            raise ReplicaUnavailableError(str(error)) from error

    async def position_of(self, loan: Loan) -> Position:
        """Return where the node of a loan stands now."""
        if loan.is_near and self._position:
            return await self._position.answer()
        row = await _row(loan.connection, self._sql["after_read"])
        position = after_read(row) if row else None
        if position is None:
            raise ReplicaUnavailableError("The database that was read has no position yet.")
        return position


async def _row(connection: Connection, question: bytes) -> Mapping[str, Any] | None:
    cursor = connection.cursor(row_factory=dict_row)
    if connection.info.transaction_status is TransactionStatus.INTRANS:
        # Else a transaction looks at the same waiting commits again and again.
        await cursor.execute(LOOK_ANEW + question, prepare=False)
        cursor.nextset()
    else:
        await cursor.execute(question)
    return await cursor.fetchone()


def _said_of(error: psycopg.Error, bound: RequestRoute | None, *, is_near: bool) -> Exception:
    """Return what is raised for a refusal of a read; note one that another node would not give."""
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        if bound:
            bound.detour = Detour.WRITE_IN_READ
        return error
    if is_near and isinstance(error, CONFLICTS):
        if bound:
            bound.detour = Detour.CONFLICT
        return ReplicaUnavailableError(first_line(error))
    return NodeGoneError(first_line(error)) if is_gone(error) else error
