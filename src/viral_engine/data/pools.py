from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from viral_engine.cluster.addresses import LINK_OPTIONS
from viral_engine.cluster.links import break_off
from viral_engine.data.attentive import AttentiveConnection
from viral_engine.data.pooler import begin_reading, let_it_only_read
from viral_engine.guards import Circuit, CircuitOpenError
from viral_engine.observe import Listener

__all__ = ["LOAN_LIMIT_S", "Connection", "LazyPool", "PoolBusy", "is_live"]

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

# Opening a connection takes four round trips, and the longest way round the world has 0.35 s.
LOAN_LIMIT_S = 1.5
# A pool that gave up starts again with the next loan; the pool's own 5 minutes of back-off would
# keep a region dark long after its database is back.
RECONNECT_LIMIT_S = 2.0


class PoolBusy(PoolTimeout):
    """Every connection is lent to somebody who works with it, and none came back in time."""


class LazyPool:
    """A connection pool that opens with its first loan and closes when it is left.

    A loan waits at most 1.5 s and then raises PoolTimeout; at once where new connections failed just
    now, which ``listener`` is told of by the name ``circuit``. Read-only connections commit each
    statement by itself and refuse to write, whatever node they lead to.

    A ``pooled`` one goes through a PgBouncer in transaction mode, which has another session of the
    database for each transaction: there a read-only connection is lent in a transaction, which is
    at one session, can only read, and is undone when it comes back.

    A connection that comes back goes to whoever waits longest, or stays at hand, without the
    pool's locks and tasks, which cost as much as a short read; the pool still opens and closes all.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        read_only: bool,
        size: int,
        circuit: str,
        pooled: bool = False,
        listener: Listener | None = None,
    ) -> None:
        parameters: dict[str, Any] = {**conninfo_to_dict(url), **LINK_OPTIONS}
        parameters["application_name"] = name
        self._begins = pooled and read_only
        if pooled:
            # What was prepared is known to one session of the database alone.
            parameters["prepare_threshold"] = None
        elif read_only:
            given = parameters.get("options", "")
            parameters["options"] = f"{given} -c default_transaction_read_only=on".strip()
        self._all: WeakSet[Connection] = WeakSet()
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            connection_class=AttentiveConnection,
            kwargs={**parameters, "autocommit": True},
            configure=self._known,
            open=False,
            min_size=0,
            max_size=size,
            timeout=LOAN_LIMIT_S,
            reconnect_timeout=RECONNECT_LIMIT_S,
            name=name,
        )
        self._size = size
        self._open = 0  # at hand, lent, or being opened
        self._opening = 0
        self._circuit = Circuit(circuit, failure=PoolTimeout, listener=listener)
        self._at_hand: list[Connection] = []
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        at_hand, self._at_hand = self._at_hand, []
        for connection in at_hand:
            await self._pool.putconn(connection)
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection for a block; else as ``borrow``."""
        connection = await self.borrow()
        try:
            yield connection
        finally:
            await self.give_back(connection)

    async def borrow(self, *, looked_at: bool = True) -> Connection:
        """Return a connection that was not closed by its server; else raise PoolTimeout in 1.5 s.

        A pooled one for reading has begun its transaction, which may take 5 s more. Who can do
        without a connection that turns out to be closed need not have it ``looked_at``, which is a
        system call.
        """
        connection = await self._live_connection(looked_at=looked_at)
        if self._begins:
            try:
                await begin_reading(connection)
            except BaseException:
                await self._let_go(connection)
                raise
        return connection

    async def give_back(self, connection: Connection) -> None:
        """Take a connection back; what was not committed on it is rolled back."""
        if connection.pgconn.transaction_status != TransactionStatus.IDLE or self._pool.closed:
            await self._let_go(connection)
        elif (waiter := self._longest_waiter()) is not None:
            waiter.set_result(connection)
        else:
            self._at_hand.append(connection)

    def give_up(self) -> None:
        """Break every connection off: whoever works with one gets an error at once.

        For a server that is known to be lost. One that is frozen with its whole machine would else be
        waited for until it goes on: its connections look well.
        """
        for connection in list(self._all):
            break_off(connection)

    async def _known(self, connection: Connection) -> None:
        self._all.add(connection)
        if self._begins:
            await let_it_only_read(connection)

    async def _live_connection(self, *, looked_at: bool) -> Connection:
        give_up_at = monotonic() + LOAN_LIMIT_S
        while True:
            connection = self._at_hand.pop() if self._at_hand else await self._next(give_up_at)
            # Not the pool's own check: that backs off between two connections, so that a server's
            # restart with ten idle connections costs a loan its whole time.
            if not looked_at or is_live(connection):
                return connection
            await connection.close()  # its end may come only a moment after its server's farewell
            await self._let_go(connection)

    async def _next(self, give_up_at: float) -> Connection:
        while self._open >= self._size:
            connection = await self._handed_over(give_up_at)
            if connection is not None:
                return connection
        self._open += 1
        self._opening += 1
        try:
            if self._pool.closed:
                await self._pool.open(wait=False)
            with self._circuit.closed():
                return await self._pool.getconn(timeout=give_up_at - monotonic())
        except BaseException as error:
            self._note_gone()
            if isinstance(error, CircuitOpenError):
                raise PoolTimeout(str(error)) from error
            raise
        finally:
            self._opening -= 1

    async def _handed_over(self, give_up_at: float) -> Connection | None:
        """Return the next connection that comes back; None where room for a new one came instead."""
        own: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(own)
        try:
            async with asyncio.timeout(give_up_at - monotonic()):
                return await own
        except BaseException as error:
            if own.done() and not own.cancelled():  # it came in the moment when we went
                if (connection := own.result()) is None:
                    self._tell_of_room()
                else:
                    await self.give_back(connection)
            if isinstance(error, TimeoutError):
                message = f"no connection came back within {LOAN_LIMIT_S} s"
                # Whose server takes no connections is not busy.
                kind = PoolTimeout if self._opening else PoolBusy
                raise kind(message) from error
            raise

    def _longest_waiter(self) -> asyncio.Future[Connection | None] | None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None

    async def _let_go(self, connection: Connection) -> None:
        try:
            await self._pool.putconn(connection)
            if connection.closed:
                await connection.close()  # of a broken one the loop may still watch the socket
        finally:
            self._note_gone()

    def _note_gone(self) -> None:
        self._open -= 1
        self._tell_of_room()

    def _tell_of_room(self) -> None:
        if (waiter := self._longest_waiter()) is not None:
            waiter.set_result(None)


def is_live(connection: Connection) -> bool:
    """Tell whether an idle connection was not closed by its server, without asking it."""
    # An idle server says nothing: what can be read is its farewell or the end. No round trip, and a
    # system call where there is nothing. A notice is taken for a farewell, which costs a connection.
    if connection.closed:
        return False
    said = select.poll()
    said.register(connection.pgconn.socket, select.POLLIN)
    return not said.poll(0)
