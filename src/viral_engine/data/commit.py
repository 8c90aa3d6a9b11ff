from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row

from viral_engine.data.pools import Connection
from viral_engine.data.positions import Position, after_commit

__all__ = ["committed"]


@asynccontextmanager
async def committed(
    connection: Connection,
    statements: Mapping[str, bytes],
    *,
    committing: Callable[[], None],
    done: Callable[[Position], None],
) -> AsyncIterator[None]:
    """Run the block in a transaction; at its end COMMIT and the position travel in one round trip.

    ``committing`` is called before COMMIT is sent, ``done`` once it was answered. A transaction
    that failed is rolled back, and nothing is asked inside it.
    """
    transaction = connection.transaction()
    await transaction.__aenter__()
    try:
        yield
        _refuse_failed(connection)
    except BaseException as error:
        await transaction.__aexit__(type(error), error, error.__traceback__)
        raise
    committing()
    level = connection.cursor(row_factory=dict_row)
    after = connection.cursor(row_factory=dict_row)
    async with connection.pipeline():
        await level.execute(statements["synchronous_commit"])
        await transaction.__aexit__(None, None, None)
        await after.execute(statements["after_commit"])
    setting, position = await level.fetchone(), await after.fetchone()
    if setting is None or position is None:
        msg = "a commit was answered without its position"
        raise psycopg.InternalError(msg)
    done(after_commit(position, synchronous_commit=setting["synchronous_commit"]))


def _refuse_failed(connection: Connection) -> None:
    # COMMIT would answer such a transaction as if all were well, and roll it back.
    if connection.info.transaction_status is TransactionStatus.INERROR:
        message = "a statement of this transaction failed and its error was not passed on"
        raise psycopg.errors.InFailedSqlTransaction(message)
