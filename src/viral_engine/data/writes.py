from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import timedelta
from types import TracebackType
from typing import Self

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import PoolTimeout

from viral_engine.cluster.links import break_off
from viral_engine.data.commit import FAILED_BEFORE, Commit, commit, commit_message
from viral_engine.data.pooler import begun_in_time
from viral_engine.data.pools import LOAN_LIMIT_S, Connection, LazyPool, PoolBusy
from viral_engine.data.primacy import PrimacyKnowledge
from viral_engine.data.primary_pools import PrimaryPools
from viral_engine.errors import (
    BusyError,
    DatabaseError,
    NoPrimaryError,
    OneRegionError,
    UnknownOutcomeError,
)
from viral_engine.observe import PrimaryChanged
from viral_engine.topology.model import Consistency

__all__ = ["COMMIT_LIMIT", "OpenTransaction", "Writes", "first_line", "is_gone"]

Ready = Callable[[Connection], Awaitable[None]]

COMMIT_LIMIT = timedelta(seconds=15)

_log = logging.getLogger("viral_engine")


_PART_OF: ContextVar[OpenTransaction | None] = ContextVar("viral_part_of", default=None)


class OpenTransaction:
    """A write transaction under way: its connection, and the only way to end it well."""

    def __init__(
        self,
        writes: Writes,
        pool: LazyPool,
        connection: Connection,
        consistency: Consistency,
        *,
        leave: Callable[[], None],
    ) -> None:
        self.pool = pool
        self.leave = leave
        self.connection = connection
        self.consistency = consistency
        self.is_over = False
        self._is_undone = False
        self._writes = writes
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def part(self) -> AsyncIterator[Connection]:
        """Lend the connection for a part that is undone by itself where it fails.

        Parts that run side by side take turns; one inside another is undone with it. Raises
        DatabaseError where the turn does not come in 15 s, and NoPrimaryError where the connection
        broke: whoever serves the request hears of it here, long before the whole transaction ends.
        """
        async with AsyncExitStack() as stack:
            stack.enter_context(_told_of_its_loss())
            if _PART_OF.get() is not self:
                await self._take_turn()
                stack.callback(self._turn.release)
                token = _PART_OF.set(self)
                stack.callback(_PART_OF.reset, token)
            await stack.enter_async_context(self.connection.transaction())
            yield self.connection

    async def _take_turn(self) -> None:
        try:
            async with asyncio.timeout(COMMIT_LIMIT.total_seconds()):
                await self._turn.acquire()
        except TimeoutError as error:
            raise DatabaseError("Two parts of one request waited for each other.") from error

    async def undo(self) -> None:
        """Roll back before the block ends; a commit is refused then."""
        self._is_undone = True
        await self.connection.rollback()

    async def commit(self) -> Commit:
        """Commit; raise UnknownOutcomeError where nobody can tell whether that happened.

        Cancelled or out of time, it gives the answer up and not the commit: that is carried to its
        end beside the caller, since a cancelled commit stays done and loses its second region.
        """
        if self._is_undone:
            raise psycopg.errors.InFailedSqlTransaction(FAILED_BEFORE)
        self.is_over = True
        return await self._writes.carry_through(self)


class Writes:
    """Begins write transactions at the primary and carries every commit to its end.

    Strong ones, whose commits may have to wait for another region, take at most seven of ten of the
    ``size`` connections: eventual ones go on beside them. Left, it waits for commits that are under way, at most their ``limit``.
    """

    def __init__(
        self,
        pools: PrimaryPools,
        statements: Mapping[str, bytes],
        *,
        primacy: PrimacyKnowledge,
        size: int,
        limit: timedelta = COMMIT_LIMIT,
    ) -> None:
        self._pools = pools
        self._sql = statements
        self._primacy = primacy
        self._limit = limit.total_seconds()
        # One that is frozen in a transaction would else keep its locks for all others to wait for.
        self._begin_sql = b"begin; set local idle_in_transaction_session_timeout = %d" % (
            limit // timedelta(milliseconds=1)
        )
        self._under_way: set[asyncio.Task[Commit]] = set()
        self._strong = asyncio.Semaphore(max(1, size * 7 // 10))
        self._doubts = 0
        self._cleared = 0
        self._open: set[OpenTransaction] = set()
        self._of_last: frozenset[OpenTransaction] = frozenset()
        self._last_primary: str | None = None
        self._giving_up: asyncio.TimerHandle | None = None

    @property
    def in_doubt(self) -> bool:
        """Whether something may be shown that another region does not hold yet."""
        return self._doubts > self._cleared

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._giving_up:
            self._giving_up.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=self._limit)

    def note(self, event: PrimaryChanged) -> None:
        """Hear that the primary is lost, or another one: nobody waits on for the one before.

        What was under way there is given up when another node is the primary, or when none is for as
        long as a commit is waited for. Not sooner: it may have been silent for a moment only, and
        what it acknowledges until then is done.
        """
        if event.was is not None:
            self._last_primary, self._of_last = event.was, frozenset(self._open)
        if self._giving_up:
            self._giving_up.cancel()
        if event.now is None:
            loop = asyncio.get_running_loop()
            self._giving_up = loop.call_later(self._limit, self._give_up)
        elif event.now != self._last_primary:
            self._give_up()

    def _give_up(self) -> None:
        for transaction in self._of_last & self._open:
            break_off(transaction.connection)

    @asynccontextmanager
    async def begun(
        self, consistency: Consistency, *, ready: Ready | None = None
    ) -> AsyncIterator[OpenTransaction]:
        """Open a transaction that is rolled back unless the block commits it; ``ready`` comes before.

        One that asks nothing of its database for as long as a commit is waited for is ended by that.
        Raises NoPrimaryError where nobody takes writes, BusyError where no connection is free, and
        OneRegionError for strict writes while only one region holds the data; nothing is left
        behind then.
        """
        transaction = await self._opened(consistency)
        connection = transaction.connection
        try:
            with _told_of_its_loss():
                if ready:
                    await ready(connection)
                await self._begin(connection, consistency)
                yield transaction
        finally:
            if not transaction.is_over:
                await asyncio.shield(self._drop(transaction))

    async def barrier(self) -> Commit:
        """Return once another region holds all that was committed before.

        At once, where one region holds the data alone. Raises UnknownOutcomeError or NoPrimaryError where that cannot be had.
        """
        # A commit that becomes doubtful meanwhile may lie behind this one.
        doubts = self._doubts
        async with self.begun(Consistency.STRONG) as transaction:
            await transaction.connection.execute(self._sql["barrier"])
            done = await transaction.commit()
        self._cleared = max(self._cleared, doubts)
        return done

    async def carry_through(self, transaction: OpenTransaction) -> Commit:
        """Commit in a task of its own, which gives the connection back when it is done."""
        task = asyncio.create_task(self._commit(transaction), name="commit")
        self._under_way.add(task)
        task.add_done_callback(self._note_end)
        done, _ = await asyncio.wait({task}, timeout=self._limit)
        if not done:
            self._doubts += 1
            raise UnknownOutcomeError(
                f"The write may have happened: its commit took more than {self._limit:g} s."
            )
        return task.result()

    async def _opened(self, consistency: Consistency) -> OpenTransaction:
        leave = await self._entered(consistency)
        pool = self._pools.now()
        try:
            connection = await pool.borrow()
        except BaseException as error:
            leave()
            if isinstance(error, PoolBusy):
                text = f"Every connection to the primary is in use: {error}."
                raise BusyError(text) from error
            if isinstance(error, PoolTimeout):
                raise NoPrimaryError(first_line(error)) from error
            raise
        transaction = OpenTransaction(self, pool, connection, consistency, leave=leave)
        self._open.add(transaction)
        return transaction

    async def _entered(self, consistency: Consistency) -> Callable[[], None]:
        """Return what is to be called once the transaction is over."""
        if not consistency.is_strong:
            return _nothing
        try:
            async with asyncio.timeout(LOAN_LIMIT_S):
                await self._strong.acquire()
        except TimeoutError as error:
            raise BusyError("As many strong writes are under way as may be at once.") from error
        return self._strong.release

    async def _begin(self, connection: Connection, consistency: Consistency) -> None:
        level = b"; set local synchronous_commit = remote_apply" if consistency.is_strong else b""
        message = self._begin_sql + level + b"; " + self._sql["stays_primary"]
        with begun_in_time(connection):
            cursor = await connection.execute(message, prepare=False)
        while cursor.nextset():
            pass
        row = await cursor.fetchone()
        if not (row and row[0]):
            raise NoPrimaryError("The primary is about to be handed over; nothing was done.")
        # Now, and not when it commits: a question after that would come too late.
        await self._primacy.is_kept(connection)
        if consistency is Consistency.STRICT:
            row = await (await connection.execute(self._sql["in_two_regions"])).fetchone()
            if not (row and row[0]):
                raise OneRegionError

    async def _commit(self, transaction: OpenTransaction) -> Commit:
        try:
            guarded = await self._primacy.is_kept(transaction.connection)
            return await commit(transaction.connection, commit_message(self._sql, guarded=guarded))
        except UnknownOutcomeError:
            self._doubts += transaction.consistency.is_strong
            raise
        finally:
            await self._drop(transaction)

    async def _drop(self, transaction: OpenTransaction) -> None:
        connection = transaction.connection
        if connection.info.transaction_status in {
            TransactionStatus.INTRANS,
            TransactionStatus.INERROR,
        }:
            try:
                await connection.rollback()
            except psycopg.Error as error:
                _log.debug("a transaction was not rolled back by us: %s", first_line(error))
        try:
            await transaction.pool.give_back(connection)
        finally:
            self._open.discard(transaction)
            transaction.leave()

    def _note_end(self, task: asyncio.Task[Commit]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Whoever waited has it too; where that one went away, only this line tells.
            _log.info("a commit ended with: %s", error)


def _nothing() -> None:
    """What an eventual write leaves."""


@contextmanager
def _told_of_its_loss() -> Iterator[None]:
    """Raise NoPrimaryError for what a primary says, or does not say, that is one no more."""
    try:
        yield
    except psycopg.errors.ReadOnlySqlTransaction as error:
        raise NoPrimaryError(first_line(error)) from error
    except psycopg.Error as error:
        if is_gone(error):
            raise NoPrimaryError(first_line(error)) from error
        raise


def is_gone(error: psycopg.Error) -> bool:
    """Tell whether the connection broke: then nothing that was not committed is there."""
    if isinstance(error, psycopg.errors.IdleInTransactionSessionTimeout):
        return True
    if not isinstance(error, psycopg.OperationalError):
        return False
    # Without a state the socket broke; 08 is a connection exception, 57P a server going down.
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, and a sentence of ours where it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else DatabaseError.__doc__ or ""
