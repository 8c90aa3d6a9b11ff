from __future__ import annotations

import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool

from viral_engine.cluster.addresses import LINK_OPTIONS

__all__ = ["Connection", "LazyPool"]

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

# Longer than the watcher takes to notice a node that refuses, so that after this the view tells a
# lost node from a busy pool.
LOAN_LIMIT_S = 1.5
# A pool that gave up starts again with the next loan; the pool's own 5 minutes of back-off would
# keep a region dark long after its database is back.
RECONNECT_LIMIT_S = 2.0


class LazyPool:
    """A connection pool that opens with its first loan and closes when it is left.

    A loan waits at most 1.5 s and then raises PoolTimeout. Read-only connections commit each
    statement by itself and refuse to write, whatever node they lead to.
    """

    def __init__(self, url: str, *, name: str, read_only: bool, size: int) -> None:
        parameters: dict[str, Any] = {**conninfo_to_dict(url), **LINK_OPTIONS}
        parameters["application_name"] = name
        if read_only:
            given = parameters.get("options", "")
            parameters["options"] = f"{given} -c default_transaction_read_only=on".strip()
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            kwargs={**parameters, "autocommit": True},
            open=False,
            min_size=0,
            max_size=size,
            timeout=LOAN_LIMIT_S,
            reconnect_timeout=RECONNECT_LIMIT_S,
            name=name,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection that was not closed by its server; else raise PoolTimeout in 1.5 s."""
        if self._pool.closed:
            await self._pool.open(wait=False)
        connection = await self._live_connection()
        try:
            async with connection:
                yield connection
        finally:
            await self._pool.putconn(connection)

    async def _live_connection(self) -> Connection:
        # Not the pool's own check: that backs off between two connections, so that a server's
        # restart with ten idle connections costs a loan its whole time.
        give_up_at = monotonic() + LOAN_LIMIT_S
        while True:
            connection = await self._pool.getconn(timeout=give_up_at - monotonic())
            if _is_live(connection):
                return connection
            await self._pool.putconn(connection)


def _is_live(connection: Connection) -> bool:
    # An idle server says nothing: what can be read is a notice, or its farewell and then the end.
    # No round trip, and a system call where there is nothing.
    said = select.poll()
    said.register(connection.pgconn.socket, select.POLLIN)
    try:
        while said.poll(0):
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return False
    return not connection.closed
