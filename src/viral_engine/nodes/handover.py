"""A primary that is handed over as planned: nothing is cut off, everything waits for a moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from urllib.parse import quote

import psycopg

from viral_engine.cluster.links import answered_within
from viral_engine.errors import DatabaseError
from viral_engine.nodes.machine import DATABASE_PORT, DatabaseSettings, netloc
from viral_engine.nodes.patroni import SUPERUSER

__all__ = ["WRITES_LOCK", "writes_held"]

WRITES_LOCK = 8461803312705
"""Every write that the runtime begins holds it, shared, until it ends (data/positions.sql)."""
CONNECT_LIMIT_S = 5
CHECKPOINT_LIMIT_S = 60


@asynccontextmanager
async def writes_held(
    host: str, settings: DatabaseSettings, *, within: timedelta
) -> AsyncIterator[None]:
    """Enter once no write of the runtime is under way at the primary; none begins in the block.

    It ends with the connection, so also when this process is killed or the primary goes down.
    Raises DatabaseError, and lets everything go on, where a write lasts longer than ``within``.
    """
    password = quote(settings.superuser_password, safe="")
    place = netloc(host, DATABASE_PORT)
    url = f"postgresql://{SUPERUSER}:{password}@{place}/{quote(settings.database, safe='')}"
    try:
        connection = await psycopg.AsyncConnection.connect(
            url, autocommit=True, connect_timeout=CONNECT_LIMIT_S,
            application_name="viral-handover",
        )  # fmt: skip
    except psycopg.Error as error:
        raise DatabaseError(f"The primary at {place} does not answer: {error}") from error
    try:
        await _take(connection, within)
        yield
    finally:
        with suppress(psycopg.Error):  # handed over, it has ended this connection itself
            await connection.close()


async def _take(connection: psycopg.AsyncConnection[tuple[object, ...]], within: timedelta) -> None:
    try:
        with answered_within(connection, CHECKPOINT_LIMIT_S + within.total_seconds()):
            # Before anybody waits: the shutdown writes what is left, and writes wait for that.
            await connection.execute("checkpoint")
            await connection.execute(
                "select set_config('lock_timeout', %s, false)",
                (f"{within // timedelta(milliseconds=1)}",),
            )
            await connection.execute("select pg_advisory_lock(%s)", (WRITES_LOCK,))
    except TimeoutError as error:
        raise DatabaseError(
            f"The primary did not hold its writes: {error}. Nothing was changed.",
            suggestion="Try again when less is written, or see whether its machine is frozen.",
        ) from error
    except psycopg.errors.LockNotAvailable as error:
        raise DatabaseError(
            f"A write has been under way for more than {within.total_seconds():g} s; it would be "
            "cut off. Nothing was changed.",
            suggestion="Try again once it is over: pg_stat_activity shows it.",
        ) from error
    except psycopg.Error as error:
        raise DatabaseError(f"The primary did not hold its writes: {error}") from error
