"""What a drill does to a database from inside its machine has happened when it is counted."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg
import pytest
from tests.services.postgres_pair import PostgresPair
from tests.services.strong_world import SOON, set_system, synchronous, until_waiting

from viral_engine.clock import NotYet, wait_until
from viral_engine.operations.drills import meddler
from viral_engine.operations.drills.deeds_machines import MEDDLINGS

COLUMNS = "select count(*) from information_schema.columns where table_name = 'organizations'"
CREATE = "create table organizations (id integer primary key, name text)"


@pytest.fixture
async def table(postgres_pair: PostgresPair, database: str) -> str:
    """The name of a database that has the table which drills meddle with."""
    await postgres_pair.primary.ask(CREATE, database)
    await postgres_pair.wait_until_replayed()
    return database


def test_every_deed_of_the_meddlers_is_one_of_a_story_and_no_other() -> None:
    assert meddler.DEEDS.keys() == MEDDLINGS.keys()


async def test_commits_that_wait_are_cancelled_and_counted(
    postgres_pair: PostgresPair, table: str
) -> None:
    where = postgres_pair.primary.url(table)
    async with synchronous(postgres_pair), postgres_pair.replay_paused():
        applied = "set synchronous_commit = remote_apply; insert into organizations values (1)"
        write = asyncio.create_task(postgres_pair.primary.ask(applied, table))
        await until_waiting(postgres_pair.primary)
        assert await asyncio.to_thread(meddler.cancel, where, 0.1) == 1
        await write  # the server only warns
    assert await asyncio.to_thread(meddler.cancel, where, 0.1) == 0


async def test_a_lock_is_held_until_its_end_and_who_waits_is_counted(
    postgres_pair: PostgresPair, table: str
) -> None:
    where = postgres_pair.primary.url(table)
    holding = asyncio.create_task(asyncio.to_thread(meddler.lock, where, 4.0))

    async def is_held() -> bool:
        held = (
            "select count(*) from pg_locks where mode = 'ExclusiveLock' and granted"
            " and relation = 'organizations'::regclass"
        )
        return await postgres_pair.primary.ask(held, table) == 1

    await wait_until(is_held, timeout=SOON, waiting_for="the lock")
    write = asyncio.create_task(
        postgres_pair.primary.ask("insert into organizations values (1)", table)
    )
    assert await holding == 1
    await write


async def test_connections_of_the_app_are_ended_and_no_others(
    postgres_pair: PostgresPair, table: str
) -> None:
    await postgres_pair.primary.ask("create role viral_app login", table)
    where = postgres_pair.primary.url(table)
    try:
        app = await psycopg.AsyncConnection.connect(where.replace("postgres@", "viral_app@"))
        other = await psycopg.AsyncConnection.connect(where)
        async with other:
            assert await asyncio.to_thread(meddler.hang_up, where, 0.1) == 1
            await other.execute("select")
            with pytest.raises(psycopg.OperationalError):
                await app.execute("select")
        await app.close()
    finally:
        await postgres_pair.primary.ask("drop role viral_app", table)


async def test_a_long_read_at_the_replica_is_ended_for_what_is_replayed(
    postgres_pair: PostgresPair, table: str
) -> None:
    await set_system(postgres_pair.replica, "max_standby_streaming_delay", "100ms")
    try:
        reading = asyncio.create_task(
            asyncio.to_thread(meddler.read, postgres_pair.replica.url(table), 7.0)
        )

        async def reads() -> bool | NotYet:
            held = "select count(*) from pg_locks where relation = 'organizations'::regclass"
            return await postgres_pair.replica.ask(held, table) == 1 or NotYet("no lock yet")

        await wait_until(reads, timeout=timedelta(seconds=4), waiting_for="the long read")
        primary = postgres_pair.primary.url(table)
        assert await asyncio.to_thread(meddler.lock_for_all, primary, 0.1) == 1
        assert await reading == 1
    finally:
        await set_system(postgres_pair.replica, "max_standby_streaming_delay", None)


async def test_a_column_comes_and_goes(postgres_pair: PostgresPair, table: str) -> None:
    before = await postgres_pair.primary.ask(COLUMNS, table)
    where = postgres_pair.primary.url(table)
    altering = asyncio.create_task(asyncio.to_thread(meddler.alter, where, 4.0))

    async def is_there() -> bool:
        return await postgres_pair.primary.ask(COLUMNS, table) == int(str(before)) + 1

    await wait_until(is_there, timeout=SOON, waiting_for="the column")
    assert await altering == 2
    assert await postgres_pair.primary.ask(COLUMNS, table) == before
