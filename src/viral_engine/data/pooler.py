from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout

from viral_engine.cluster.links import answered_within

__all__ = ["begin_reading", "begun_in_time", "let_it_only_read"]

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

# A pooler takes connections while its database is gone or busy, and lets them wait for minutes.
BEGIN_LIMIT_S = 5.0


async def let_it_only_read(connection: Connection) -> None:
    """Have every transaction of a new connection begin read-only, none of them committed by itself.

    A pooler takes no settings for all transactions of a client: each is at another session.
    """
    await connection.set_autocommit(False)
    await connection.set_read_only(True)


async def begin_reading(connection: Connection) -> None:
    """Begin a transaction of such a connection; raise PoolTimeout where none is begun in 5 s."""
    try:
        with begun_in_time(connection):
            # BEGIN READ ONLY goes before it, in the same round trip.
            async with connection.pipeline():
                await connection.execute(b"select")
    except PoolTimeout:
        raise
    except psycopg.OperationalError as error:
        raise PoolTimeout(str(error)) from error


@contextmanager
def begun_in_time(connection: Connection) -> Iterator[None]:
    """Break the connection off where the block takes more than 5 s, and raise PoolTimeout then.

    For the beginning of a transaction: nothing was done that could be lost.
    """
    try:
        with answered_within(connection, BEGIN_LIMIT_S):
            yield
    except TimeoutError as error:
        message = f"no transaction could be begun there in {BEGIN_LIMIT_S:g} s"
        raise PoolTimeout(message) from error
