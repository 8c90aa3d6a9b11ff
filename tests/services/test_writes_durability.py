"""A strong write is in two regions when it is acknowledged, or its answer says that it is not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
import psycopg
from tests.services.postgres_pair import PostgresPair
from tests.services.strong_world import insert, set_system, synchronous, until_waiting, world
from tests.services.task_service import environ_of, user_of

from viral_engine.clock import wait_until
from viral_engine.data import Route, RouteKind, routed
from viral_engine.topology.model import Consistency

HERE = Route(RouteKind.LOCAL, "primary-here", "iad")


@asynccontextmanager
async def _service(
    pair: PostgresPair, database: str, consistency: str
) -> AsyncIterator[httpx.AsyncClient]:
    declared = {"VIRAL_CONSISTENCY": json.dumps({"tasks": consistency})}
    async with user_of({**environ_of(pair, database, "iad"), **declared}) as user:

        async def is_ready() -> bool:
            return bool((await user.get("/api/tasks")).is_success)

        await wait_until(is_ready, timeout=timedelta(seconds=10), waiting_for="the primary")
        yield user


async def _tasks(pair: PostgresPair, database: str) -> object:
    return await pair.primary.ask("select count(*) from tasks", database)


async def test_a_strong_write_can_be_read_in_the_other_region_at_the_moment_it_is_acknowledged(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with (
        synchronous(postgres_pair),
        world(postgres_pair, numbers) as here,
        await psycopg.AsyncConnection.connect(
            postgres_pair.replica.url(numbers), autocommit=True
        ) as replica,
    ):
        missed = dict.fromkeys(Consistency, 0)
        for number in range(300):
            consistency = list(Consistency)[number % 3]
            async with here.databases.writing(consistency) as connection:
                await connection.execute("insert into t values (%s)", [number])
            cursor = await replica.execute("select from t where value = %s", [number])
            missed[consistency] += await cursor.fetchone() is None
        # The control arm, where it takes no luck: what does not wait for the replica is not there.
        async with postgres_pair.replay_paused():
            async with here.databases.writing(Consistency.EVENTUAL) as connection:
                await connection.execute(b"insert into t values (-1)")
            cursor = await replica.execute(b"select from t where value = -1")
            assert await cursor.fetchone() is None
    assert missed[Consistency.STRONG] == missed[Consistency.STRICT] == 0


async def test_an_eventual_write_waits_for_nobody_and_a_client_may_ask_for_more(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with (
        synchronous(postgres_pair),
        _service(postgres_pair, migrated, "eventual") as user,
        postgres_pair.replay_paused(),
    ):
        for _ in range(5):
            answer = await user.post("/api/tasks", json={"title": "x"})
            assert answer.status_code == 201
            assert "viral-durability" not in answer.headers
        asked = asyncio.create_task(
            user.post("/api/tasks", json={"title": "x"}, headers={"viral-consistency": "Strong"})
        )
        await until_waiting(postgres_pair.primary)
        assert not asked.done()
        await postgres_pair.replica.ask("select pg_wal_replay_resume()")
        answer = await asked
        assert answer.status_code == 201
        assert "viral-durability" not in answer.headers
        for unknown in ("linearizable", "", "strong, strict"):
            refused = await user.post(
                "/api/tasks", json={"title": "x"}, headers={"viral-consistency": unknown}
            )
            assert refused.status_code == 400, unknown
            assert refused.json()["type"].endswith(":unknown-consistency")
    assert await _tasks(postgres_pair, migrated) == 6


async def test_nobody_can_ask_for_less_than_was_declared(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with (
        synchronous(postgres_pair),
        _service(postgres_pair, migrated, "strong") as user,
        postgres_pair.replay_paused(),
    ):
        asked = asyncio.create_task(
            user.post("/api/tasks", json={"title": "x"}, headers={"viral-consistency": "eventual"})
        )
        await until_waiting(postgres_pair.primary)
        assert not asked.done()
        await postgres_pair.replica.ask("select pg_wal_replay_resume()")
        assert (await asked).status_code == 201


async def test_a_commit_that_a_dropped_standby_released_says_that_one_region_holds_it(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with (
        synchronous(postgres_pair),
        _service(postgres_pair, migrated, "strong") as user,
        postgres_pair.replay_paused(),
    ):
        writing = asyncio.create_task(user.post("/api/tasks", json={"title": "x"}))
        await until_waiting(postgres_pair.primary)
        await set_system(postgres_pair.primary, "synchronous_standby_names", "")
        answer = await writing
        assert answer.status_code == 201
        assert answer.headers["viral-durability"] == "one-region"
        again = await user.post("/api/tasks", json={"title": "y"})
        assert again.headers["viral-durability"] == "one-region"


async def test_a_repetition_says_that_one_region_holds_it_when_that_has_become_so(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with (
        synchronous(postgres_pair),
        _service(postgres_pair, migrated, "strong") as user,
    ):
        body, key = {"title": "x"}, {"idempotency-key": "k1"}
        first = await user.post("/api/tasks", json=body, headers=key)
        assert "viral-durability" not in first.headers
        await set_system(postgres_pair.primary, "synchronous_standby_names", "")
        again = await user.post("/api/tasks", json=body, headers=key)
        assert again.json() == first.json()
        assert again.headers["viral-durability"] == "one-region"


async def test_a_transaction_that_wrote_nothing_is_not_said_to_be_held_by_one_region(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with synchronous(postgres_pair), world(postgres_pair, numbers) as here:
        await insert(here.databases, 1)
        await postgres_pair.wait_until_replayed()
        with routed(HERE, consistency=Consistency.STRONG) as bound:
            async with here.databases.writing() as connection:
                await connection.execute("select count(*) from t")
            assert not bound.in_one_region
            await insert(here.databases, 2)
            assert not bound.in_one_region


async def test_a_strict_write_is_refused_while_one_region_holds_the_data_alone(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with _service(postgres_pair, migrated, "strict") as user:
        async with synchronous(postgres_pair):
            answer = await user.post("/api/tasks", json={"title": "x"})
            assert answer.status_code == 201
            assert "viral-durability" not in answer.headers
        refused = await user.post("/api/tasks", json={"title": "y"})
        assert refused.status_code == 503
        assert refused.json()["type"].endswith(":one-region"), refused.json()
        assert refused.headers["retry-after"] == "1"
        assert (await user.get("/api/tasks")).json()["items"][0]["title"] == "x"
    assert await _tasks(postgres_pair, migrated) == 1


async def test_a_strict_write_whose_standby_is_dropped_while_it_commits_says_that_it_is_in_one_region(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with (
        synchronous(postgres_pair),
        _service(postgres_pair, migrated, "strict") as user,
        postgres_pair.replay_paused(),
    ):
        writing = asyncio.create_task(user.post("/api/tasks", json={"title": "x"}))
        await until_waiting(postgres_pair.primary)
        await set_system(postgres_pair.primary, "synchronous_standby_names", "")
        answer = await writing
        assert answer.status_code == 201
        assert answer.headers["viral-durability"] == "one-region"
