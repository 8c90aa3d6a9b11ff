from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import (
    AsyncExitStack,
    asynccontextmanager,
)
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import BaseRowFactory
from psycopg_pool import PoolTimeout

from viral_engine.cluster import ClusterView, DatabaseAddresses
from viral_engine.data.blocks import reads_at_primary
from viral_engine.data.decide import Route, RouteKind
from viral_engine.data.once import FirstAnswer, RequestKey
from viral_engine.data.pools import Connection
from viral_engine.data.primacy import PrimacyKnowledge
from viral_engine.data.primary_pools import PrimaryPools
from viral_engine.data.reads import Loan, Reads
from viral_engine.data.request import Detour, RequestRoute, current_route, noting_faults
from viral_engine.data.statements import read_statements
from viral_engine.data.transactions import RequestTransaction, Transactions
from viral_engine.data.writes import COMMIT_LIMIT, OpenTransaction, Writes, first_line
from viral_engine.errors import (
    DatabaseError,
    NodeGoneError,
    NoPrimaryError,
    ReplicaUnavailableError,
)
from viral_engine.lsn import Lsn
from viral_engine.observe import Event, Listener, PrimaryChanged
from viral_engine.topology.model import Consistency

__all__ = ["Databases", "ReadLoan", "RequestTransaction"]

T = TypeVar("T")

POOL_SIZE = 10
ASKED_FOR = "asked-for"
"""The reason of a read at the primary that the app itself asked for."""


@dataclass(frozen=True, slots=True)
class ReadLoan:
    """A connection to read by; ``count_in`` counts in what it has shown until it is called."""

    connection: Connection
    is_near: bool
    count_in: Callable[[], Awaitable[None]]


class Databases:
    """Lends connections for reading near and writing at the primary.

    Inside a request every read and write advances its session by the position of the node that
    did it, asked after the last statement and never remembered from before; and the request's
    declared consistency holds. No connection is made before the first loan, so a machine starts
    without any database. The pools belong to this object and are closed when it is left.

    A commit is waited for ``commit_limit``, and goes on after that; a transaction for writing that
    asks nothing for as long is ended by the database. ``asks_primacy`` is for the
    control arm of drills: without it a node's word is taken for it. ``listener`` is told of
    databases that are not asked for a moment, since they failed.
    """

    def __init__(
        self,
        addresses: DatabaseAddresses,
        *,
        here: str,
        machine: str,
        view: Callable[[], ClusterView],
        pool_size: int = POOL_SIZE,
        asks_primacy: bool = True,
        replayed: Callable[[int, Lsn], None] = lambda _timeline, _lsn: None,
        commit_limit: timedelta = COMMIT_LIMIT,
        listener: Listener | None = None,
    ) -> None:
        self._sql = {
            **read_statements("viral_engine.data", "positions.sql"),
            **read_statements("viral_engine.data", "once.sql"),
        }
        self._reads = Reads(
            addresses,
            self._sql,
            here=here,
            machine=machine,
            view=view,
            pool_size=pool_size,
            replayed=replayed,
            listener=listener,
        )
        self._view = view
        self._primacy = PrimacyKnowledge(self._sql, asks=asks_primacy)
        self._primary = PrimaryPools.of(
            addresses, view=view, name=f"viral-write {machine}", read_only=False, size=pool_size,
            listener=listener,
        )  # fmt: skip
        self._writes: Writes | None = None
        if self._primary is not None:
            self._writes = Writes(
                self._primary, self._sql, primacy=self._primacy, size=pool_size,
                limit=commit_limit,
            )  # fmt: skip
        self._transactions = Transactions(self._writes, self._reads, self._sql)
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._open.enter_async_context(self._reads)
        if self._primary and self._writes:
            await self._open.enter_async_context(self._primary)
            await self._open.enter_async_context(self._writes)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._open.aclose()

    def note(self, event: Event) -> None:
        """Hear what was seen of the nodes, so that nobody waits on for one that is lost.

        What reads there fails at once, and may be read elsewhere; what writes there, as ``Writes.note``.
        """
        self._reads.note(event)
        if isinstance(event, PrimaryChanged) and self._writes:
            self._writes.note(event)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """Lend a read-only connection to this region's node, or to the primary where that is gone.

        For a strong resource it leads to the primary. Every statement is a read-only transaction of
        its own; open one with ``transaction()`` where several must see the same moment. Raises
        ReplicaUnavailableError when nobody can be read, and NoPrimaryError where a strong read
        could not be proven to be one: then what was read must not be used.
        """
        bound = current_route()
        if bound and bound.transaction:
            with noting_faults():
                async with bound.transaction.part() as connection:
                    yield connection
        elif bound and bound.writes_anyway:
            async with self.writing() as connection:
                yield connection
        else:
            async with self.read_loan() as loan:
                yield loan.connection
                await loan.count_in()

    @asynccontextmanager
    async def read_loan(self) -> AsyncIterator[ReadLoan]:
        """Lend as ``reading``, and leave it to the borrower when what was read is counted in.

        Until it is, nothing that was read may be used.
        """
        bound = current_route()
        strong = bound is not None and bound.consistency.is_strong
        with noting_faults():
            if strong or reads_at_primary():
                if bound and not strong:
                    bound.route = Route(RouteKind.PRIMARY, ASKED_FOR, self._view().primary_region)
                async with self._strong_loan() as loan:
                    saw = partial(self._saw_at_primary, bound, loan)
                    yield ReadLoan(loan.connection, loan.is_near, saw)
            else:
                if bound and bound.route.reason == ASKED_FOR:
                    bound.route = self._reads.near_route(bound.session.token)
                async with self._reads.lent(bound) as loan:
                    yield ReadLoan(loan.connection, loan.is_near, partial(self._saw, bound, loan))

    async def select(
        self,
        query: bytes,
        values: Mapping[str, object],
        *,
        row_factory: BaseRowFactory[T],
    ) -> Sequence[T]:
        """Return the rows of one statement, read as by ``reading``.

        A statement that a replica gave up, because what it looked at was removed at the primary, is
        asked once more at the primary.
        """
        try:
            return await self._select(query, values, row_factory)
        except ReplicaUnavailableError as fault:
            bound = current_route()
            if bound is None:
                raise
            if bound.detour is not Detour.CONFLICT:
                bound.note_fault(fault)
                raise
        with noting_faults():
            async with self._reads.lent_at_primary(bound) as loan:
                rows = await _rows(loan.connection, query, values, row_factory)
                await self._reads.saw(bound, loan)
        bound.route = Route(RouteKind.PRIMARY, Detour.CONFLICT, self._view().primary_region)
        bound.detour = None
        return rows

    async def _select(
        self, query: bytes, values: Mapping[str, object], row_factory: BaseRowFactory[T]
    ) -> Sequence[T]:
        bound = current_route()
        if bound and not self._is_special(bound) and self._reads.is_plain(bound):
            try:
                return await self._reads.plain_rows(bound, query, values, row_factory)
            except (PoolTimeout, NodeGoneError):
                pass  # then by the long way, which knows what to do without
        async with self.reading() as connection:
            return await _rows(connection, query, values, row_factory)

    @staticmethod
    def _is_special(bound: RequestRoute) -> bool:
        return bool(
            bound.transaction
            or bound.writes_anyway
            or bound.consistency.is_strong
            or reads_at_primary()
            or bound.route.reason == ASKED_FOR
        )

    @asynccontextmanager
    async def writing(self, consistency: Consistency | None = None) -> AsyncIterator[Connection]:
        """Lend a connection to the primary in a transaction, committed when the block ends well.

        In a request that has a transaction of its own the block is a part of that, and is committed
        with it. Without ``consistency`` the request's own counts. Raises NoPrimaryError when nobody
        takes writes, BusyError where no connection is free, OneRegionError where a strict write would be held by one region alone, which
        leave nothing behind, and UnknownOutcomeError when the commit may or may not have happened.
        """
        bound = current_route()
        if bound and bound.transaction:
            with noting_faults():
                async with bound.transaction.part() as connection:
                    yield connection
            return
        declared = consistency or (bound.consistency if bound else Consistency.EVENTUAL)
        with noting_faults():
            async with self._transactions.begun(declared) as transaction:
                async with self._accounted(bound, transaction):
                    yield transaction.connection
                await self._transactions.committed(bound, transaction)

    @asynccontextmanager
    async def _accounted(
        self, bound: RequestRoute | None, transaction: OpenTransaction
    ) -> AsyncIterator[None]:
        """Count in what a transaction for writing has read, where its commit does not.

        That is when it is undone, or still open as the answer begins. What proves to be read at
        no primary is not answered.
        """
        if bound is None:
            yield
            return
        saw = partial(self._saw_uncommitted, bound, transaction)
        with bound.reading(saw):
            try:
                yield
            except Exception:
                if not bound.is_answered:
                    try:
                        await saw()
                    except DatabaseError as fault:
                        bound.must_not_answer(fault)
                raise

    async def _saw_uncommitted(self, bound: RequestRoute, transaction: OpenTransaction) -> None:
        status = transaction.connection.info.transaction_status
        try:
            if status is TransactionStatus.INERROR:
                await transaction.undo()  # nothing can be asked in it
            elif status is not TransactionStatus.INTRANS:
                return  # it broke, and whoever used it has the error; or it is over
            await self._saw_at_primary(bound, Loan(transaction.connection, is_near=False))
        except psycopg.Error as error:
            raise NoPrimaryError(first_line(error)) from error

    @asynccontextmanager
    async def once(
        self, bound: RequestRoute, key: RequestKey
    ) -> AsyncIterator[FirstAnswer | RequestTransaction]:
        """Do a request once: as ``Transactions.once``."""
        with noting_faults():
            async with self._transactions.once(bound, key) as found:
                yield found

    @asynccontextmanager
    async def _strong_loan(self) -> AsyncIterator[Loan]:
        await self._transactions.settle_doubt()
        async with self._reads.lent_at_primary(current_route()) as loan:
            yield loan

    async def _saw(self, bound: RequestRoute | None, loan: Loan) -> None:
        if bound:
            with noting_faults():
                await self._reads.saw(bound, loan)

    async def _saw_at_primary(self, bound: RequestRoute | None, loan: Loan) -> None:
        with noting_faults():
            kept = await self._primacy.is_kept(loan.connection)
            await self._reads.saw_at_primary(bound, loan, primacy_is_kept=kept)


async def _rows(
    connection: Connection,
    query: bytes,
    values: Mapping[str, Any],
    row_factory: BaseRowFactory[T],
) -> Sequence[T]:
    cursor = connection.cursor(row_factory=row_factory)
    await cursor.execute(query, values)
    return await cursor.fetchall()
