"""The position that a write or a read returns is one that a replica reaches, and holds all of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import scalar_row
from tests.services.postgres_pair import PostgresPair

from viral_engine.cluster import ClusterView, ClusterWatcher, DatabaseAddresses
from viral_engine.data import Databases, Route, RouteKind, Session, routed
from viral_engine.errors import ReplicaUnavailableError, UnknownOutcomeError
from viral_engine.lsn import Lsn

SOON = timedelta(seconds=10)
NEAR = Route(RouteKind.LOCAL, "replica", "lhr")
IN_RECOVERY = b"select pg_is_in_recovery()"


def _all_answer(view: ClusterView) -> bool:
    return all(node.reachable for node in view.nodes)


@asynccontextmanager
async def _in_london(
    pair: PostgresPair, database: str
) -> AsyncIterator[tuple[Databases, ClusterWatcher]]:
    nodes = {"iad": pair.primary.url(database), "lhr": pair.replica.url(database)}
    addresses = DatabaseAddresses(primary=nodes["iad"], nodes=nodes)
    async with ClusterWatcher(nodes, machine="m1") as cluster:
        await cluster.wait_for(_all_answer, timeout=SOON)
        databases = Databases(
            addresses, here="lhr", machine="m1", view=lambda: cluster.view, pool_size=2
        )
        async with databases:
            yield databases, cluster


async def _insert(databases: Databases, value: int, *, level: bytes = b"local") -> None:
    async with databases.writing() as connection:
        await connection.execute(b"set local synchronous_commit = " + level)
        await connection.execute("insert into t values (%s)", [value])


async def _swallow_an_error(databases: Databases) -> None:
    async with databases.writing() as connection:
        with suppress(psycopg.errors.DivisionByZero):
            await connection.execute("select 1 / 0")


async def _values(databases: Databases) -> list[int]:
    query = b"select value from t order by value"
    return list(await databases.select(query, {}, row_factory=scalar_row))


@pytest.fixture
async def table(postgres_pair: PostgresPair, database: str) -> str:
    """The name of a database with a table ``t`` of unique values, checked at commit."""
    await postgres_pair.primary.ask(
        "create table t (value integer unique deferrable initially deferred)", database
    )
    await postgres_pair.wait_until_replayed()
    return database


async def test_r01_a_commit_that_ends_a_page_of_the_log_is_not_waited_for(
    postgres_pair: PostgresPair, table: str
) -> None:
    async with (
        _in_london(postgres_pair, table) as (databases, cluster),
        await psycopg.AsyncConnection.connect(
            postgres_pair.primary.url(table), autocommit=True
        ) as filler,
    ):

        async def head() -> int:
            cursor = await filler.execute("select pg_current_wal_insert_lsn()::text")
            row = await cursor.fetchone()
            assert row
            return Lsn.parse(row[0]).position

        async def fill(size: int) -> None:
            await filler.execute(
                "select pg_logical_emit_message(false, '', repeat('x', %s))", [size]
            )

        async def write() -> Lsn:
            with routed(NEAR) as bound:
                async with databases.writing() as connection:
                    await connection.execute("select pg_logical_emit_message(true, '', '')")
            assert bound.session.token
            return bound.session.token.position

        async def grows(what: int | None) -> int:
            before = await head()
            await (write() if what is None else fill(what))
            return await head() - before

        commit, overhead = await grows(None), await grows(800) - 800
        met = 0
        for _ in range(60):
            room = 8192 - (await head() + commit) % 8192
            await fill(room - overhead if room > overhead + 400 else room + 8192 - 24 - overhead)
            position = await write()
            if await head() % 8192 != 24:
                continue
            met += 1
            assert position.position % 8192 == 0
            await cluster.wait_until_replayed("lhr", timeline=1, lsn=position, timeout=SOON)
            node = cluster.view.node("lhr")
            assert node
            assert node.lsn
            assert node.lsn >= position
        assert met > 0, "no commit ended a page"


async def test_r09_a_read_after_a_commit_in_the_same_request_sees_it(
    postgres_pair: PostgresPair, table: str
) -> None:
    async with _in_london(postgres_pair, table) as (databases, _), postgres_pair.replay_paused():
        with routed(NEAR) as bound:
            assert await _values(databases) == []
            await _insert(databases, 1)
            assert await _values(databases) == [1]
            assert str(bound.route) == "primary; reason=written-before"
            async with databases.reading() as connection:
                cursor = await connection.execute("select value from t")
                assert await cursor.fetchall() == [(1,)]


async def test_r08_two_reads_in_one_request_hit_one_node(
    postgres_pair: PostgresPair, table: str
) -> None:
    async with _in_london(postgres_pair, table) as (databases, _):
        for route in (NEAR, Route(RouteKind.PRIMARY, "replica-behind", "iad")):
            with routed(route) as bound:
                found = [
                    await databases.select(IN_RECOVERY, {}, row_factory=scalar_row)
                    for _ in range(5)
                ]
                assert found == [[route is NEAR]] * 5
                assert bound.route is route


async def test_r13_a_transaction_that_failed_is_asked_nothing_within_it(
    postgres_pair: PostgresPair, table: str
) -> None:
    async with _in_london(postgres_pair, table) as (databases, _):
        with routed(NEAR) as bound:
            async with databases.writing() as connection:
                await connection.execute("insert into t values (1)")
            before = bound.session.token
            with pytest.raises(psycopg.errors.DivisionByZero):
                async with databases.writing() as connection:
                    await connection.execute("select 1 / 0")
            # Refused by the commit itself, whose answer travels with that of the position.
            with pytest.raises(psycopg.errors.UniqueViolation):
                await _insert(databases, 1)
            with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                await _swallow_an_error(databases)
            failed = bound.session.token
            assert before
            assert failed
            assert failed.wrote == before.wrote
            await _insert(databases, 2)
            assert bound.session.token
            assert bound.session.token.wrote != before.wrote
            assert await _values(databases) == [1, 2]


async def test_a_commit_whose_position_could_not_be_asked_is_unknown_and_never_refused(
    postgres_pair: PostgresPair, table: str
) -> None:
    async with _in_london(postgres_pair, table) as (databases, _):
        assert databases._writes
        databases._writes._sql = {**databases._sql, "after_commit": b"select 1 / 0 as timeline"}
        with routed(NEAR), pytest.raises(UnknownOutcomeError):
            await _insert(databases, 1)
    assert await postgres_pair.primary.ask("select count(*) from t", table) == 1


async def test_r23_a_commit_that_is_not_flushed_yet_is_covered_by_its_token(
    postgres_pair: PostgresPair, table: str
) -> None:
    async with _in_london(postgres_pair, table) as (databases, cluster):
        ahead_of_the_disk = 0
        for value in range(50):
            with routed(NEAR) as bound:
                await _insert(databases, value, level=b"off")
            token = bound.session.token
            assert token
            flushed = await postgres_pair.primary.ask("select pg_current_wal_flush_lsn()::text")
            ahead_of_the_disk += token.position > Lsn.parse(str(flushed))
            await cluster.wait_until_replayed(
                "lhr", timeline=token.timeline, lsn=token.position, timeout=SOON
            )
            with routed(NEAR, Session(token)):
                assert await _values(databases) == list(range(value + 1))
            if ahead_of_the_disk and value >= 9:
                break
        assert ahead_of_the_disk > 0, "every commit was flushed at once: nothing was shown"


async def test_the_message_that_commits_also_asks_for_the_position(
    postgres_pair: PostgresPair, table: str, tmp_path: Path
) -> None:
    log = tmp_path / "wire"
    async with _in_london(postgres_pair, table) as (databases, _):
        with routed(NEAR), log.open("wb") as file:
            async with databases.writing() as connection:
                await connection.execute("insert into t values (1)")
                traced = connection.pgconn
                traced.trace(os.dup(file.fileno()))
            traced.untrace()
    sides = [line.split("\t")[1] for line in log.read_text().splitlines() if "\t" in line]
    asked = [line for line in log.read_text().splitlines() if "\tQuery\t" in line]
    assert len(asked) == 1
    assert "commit;" in log.read_text()
    assert "pg_current_wal_flush_lsn" in log.read_text()
    turns = [side for side, before in zip(sides, ["", *sides], strict=False) if side != before]
    assert turns == ["F", "B"]


async def test_a_node_that_does_not_hold_what_the_client_saw_is_not_believed(
    postgres_pair: PostgresPair, table: str
) -> None:
    async with _in_london(postgres_pair, table) as (databases, _), postgres_pair.replay_paused():
        with routed(NEAR) as bound:
            await _insert(databases, 1)
        # A decision for the replica, although it cannot have it: as when it was rebuilt meanwhile.
        with (
            routed(NEAR, Session(bound.session.token)),
            pytest.raises(
                ReplicaUnavailableError, match="does not hold all that this client has seen"
            ),
        ):
            await _values(databases)
