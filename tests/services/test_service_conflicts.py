"""A resolver of the user's own, against a real database: what two merged, neither lost."""

from __future__ import annotations

import asyncio

import psycopg
from tests.services.postgres_pair import PostgresPair

from viral_engine.data.conflicts import Current, Incoming, Refuse, Resolve, Store, settle_conflict
from viral_engine.data.versions import Expected

Labels = frozenset[str]


def union(current: Labels, incoming: Labels) -> Labels | Refuse:
    """Keep the labels of both, up to a hundred."""
    merged = current | incoming
    return merged if len(merged) <= 100 else Refuse("too-many-labels")


async def test_twenty_changes_based_on_one_version_are_merged_and_none_is_lost(
    postgres_pair: PostgresPair, database: str
) -> None:
    primary = postgres_pair.primary
    await primary.ask("create table shelves (labels text[], version int)", database)
    await primary.ask("insert into shelves values ('{}', 1)", database)

    async def add(label: str) -> None:
        change = Incoming(frozenset({label}), Expected(version=0))
        async with await psycopg.AsyncConnection.connect(primary.url(database)) as connection:
            cursor = await connection.execute("select labels, version from shelves for update")
            row = await cursor.fetchone()
            assert row is not None
            outcome = settle_conflict(Resolve(union), Current(frozenset(row[0]), row[1]), change)
            assert isinstance(outcome, Store)
            query = "update shelves set labels = %s, version = version + 1 where version = %s"
            done = await connection.execute(query, [sorted(outcome.row), outcome.replaces])
            assert done.rowcount == 1

    await asyncio.gather(*(add(f"l{number:02}") for number in range(20)))
    assert await primary.ask("select version from shelves", database) == 21
    merged = await primary.ask("select labels from shelves", database)
    assert merged == [f"l{number:02}" for number in range(20)]
