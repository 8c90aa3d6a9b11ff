"""A commit of SQLAlchemy's is acknowledged, refused or unknown, and carries the position with it."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession
from tests.services.orm_world import NEAR, Thing, in_london
from tests.services.postgres_pair import PostgresPair

from viral_engine.clock import wait_until
from viral_engine.data import routed
from viral_engine.data.orm_connection import LentConnection
from viral_engine.errors import NoPrimaryError, UnknownOutcomeError
from viral_engine.topology.model import Consistency

SOON = timedelta(seconds=10)
COMMITTING = "select count(*) from pg_stat_activity where query like '%commit%pg_current_wal%' \
and state = 'active' and application_name like 'viral-write%'"
KILL = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
where application_name like 'viral-write%'"

MINE = "select count(*) from pg_stat_activity where application_name like 'viral-write m1%'"

PRIMACY = "create schema if not exists viral; create or replace function viral.primacy_remaining() \
returns double precision language sql as 'select {left}::float8'"


async def _is_committing(pair: PostgresPair) -> None:
    async def seen() -> bool:
        return await pair.primary.ask(COMMITTING) == 1

    await wait_until(seen, timeout=SOON, waiting_for="the server to be committing")


async def _driver(session: AsyncSession) -> LentConnection:
    connection = await session.connection()
    lent = (await connection.get_raw_connection()).driver_connection
    assert isinstance(lent, LentConnection)
    return lent


async def test_one_message_commits_and_asks_for_the_position(
    postgres_pair: PostgresPair, things: str, tmp_path: Path
) -> None:
    log = tmp_path / "wire"
    async with in_london(postgres_pair, things) as london:
        await london.add(1)
        with routed(NEAR) as bound, log.open("wb") as file:
            async with london.sessions.writing() as session:
                lent = await _driver(session)
                assert lent.loan
                traced = lent.loan.connection.pgconn
                traced.trace(os.dup(file.fileno()))
                await session.execute(text("insert into thing (value) values (2)"))
                await session.commit()
                traced.untrace()
            assert bound.session.wrote
    lines = [line.split("\t") for line in log.read_text().splitlines() if "\t" in line]
    turns = [
        line[1] for line, before in zip(lines, [["", ""], *lines], strict=False)
        if line[1] != before[1]
    ]  # fmt: skip
    assert turns == ["F", "B"] * 2, "the insert, and the commit with its position"
    last_sent = log.read_text().split("\tF\t")[-1]
    assert "commit" in last_sent
    assert "pg_current_wal_flush_lsn" in last_sent


async def test_a_strong_commit_waits_for_the_standby_to_show_it(
    postgres_pair: PostgresPair, things: str
) -> None:
    async with in_london(postgres_pair, things) as london:
        with routed(NEAR, consistency=Consistency.STRONG):
            async with london.sessions.writing() as session:
                level = await session.scalar(text("show synchronous_commit"))
                assert level == "remote_apply"
        with routed(NEAR):
            async with london.sessions.writing() as session:
                level = await session.scalar(text("show synchronous_commit"))
                assert level != "remote_apply"


async def test_a_commit_is_carried_to_its_end_when_its_caller_is_cancelled(
    postgres_pair: PostgresPair, things: str
) -> None:
    async with in_london(postgres_pair, things) as london:

        async def write(value: int) -> None:
            async with london.sessions() as session:
                await session.execute(text("insert into slow_to_commit values (:v)"), {"v": value})
                await session.commit()

        for value in range(6):  # more than there are connections: none may be lost
            writing = asyncio.create_task(write(value))
            await _is_committing(postgres_pair)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing

            async def is_there(count: int = value + 1) -> bool:
                found = await postgres_pair.primary.ask(
                    "select count(*) from slow_to_commit", things
                )
                return found == count

            async def none_commits() -> bool:
                return await postgres_pair.primary.ask(COMMITTING) == 0

            await wait_until(is_there, timeout=SOON, waiting_for="the commit to end")
            await wait_until(none_commits, timeout=SOON, waiting_for="its session to be idle")
        await london.add(1)


async def test_a_commit_whose_answer_is_lost_is_unknown(
    postgres_pair: PostgresPair, things: str
) -> None:
    async with in_london(postgres_pair, things) as london:
        async with london.sessions() as session:
            await session.execute(text("insert into slow_to_commit values (-1)"))
            committing = asyncio.create_task(session.commit())
            await _is_committing(postgres_pair)
            await postgres_pair.primary.ask(KILL)
            with pytest.raises(UnknownOutcomeError):
                await committing
        await london.add(1)


async def test_a_connection_that_breaks_before_the_commit_leaves_nothing_and_says_so(
    postgres_pair: PostgresPair, things: str
) -> None:
    async with in_london(postgres_pair, things) as london:
        async with london.sessions() as session:
            session.add(Thing(value=1))
            await session.flush()
            await postgres_pair.primary.ask(KILL)
            with pytest.raises(NoPrimaryError) as gone:
                await session.execute(text("select 1"))
        # What an app that knows only SQLAlchemy waits for when its database is away.
        assert isinstance(gone.value, OperationalError)
        with routed(NEAR):
            assert await london.values() == []


async def test_connections_that_the_server_closed_meanwhile_cost_no_transaction(
    postgres_pair: PostgresPair, things: str
) -> None:
    async with in_london(postgres_pair, things) as london:
        await asyncio.gather(*(london.add(value) for value in range(3)))
        assert await postgres_pair.primary.ask(KILL) != 0

        async def are_gone() -> bool:
            return await postgres_pair.primary.ask(MINE) == 0

        await wait_until(are_gone, timeout=SOON, waiting_for="the connections to be closed")
        await london.add(3)
        await postgres_pair.wait_until_replayed()
        with routed(NEAR):
            assert await london.values() == [0, 1, 2, 3]


async def test_nothing_is_connected_before_the_first_transaction_and_every_loan_comes_back(
    postgres_pair: PostgresPair, things: str
) -> None:
    async with in_london(postgres_pair, things) as london:
        assert await postgres_pair.primary.ask(MINE) == 0
        for value in range(10):
            with routed(NEAR):
                await london.add(value)
                assert value in await london.values()
        assert await postgres_pair.primary.ask(MINE) == 1


async def test_without_primacy_a_strong_read_is_not_answered_and_a_commit_is_unknown(
    postgres_pair: PostgresPair, things: str
) -> None:
    async with in_london(postgres_pair, things) as london:
        for left, is_kept in ((4.0, True), (0.0, False)):
            await postgres_pair.primary.ask(PRIMACY.format(left=left), things)
            with (
                routed(NEAR, consistency=Consistency.STRONG) as bound,
            ):
                # Undone as sessions are at their end: too late for an error of its own.
                await london.values()
                if is_kept:
                    await bound.tell()
                    assert bound.session.token
                    continue
                with pytest.raises(NoPrimaryError, match="could not prove"):
                    await bound.tell()
            with routed(NEAR), pytest.raises(UnknownOutcomeError, match="could no longer prove"):
                await london.add(1)
