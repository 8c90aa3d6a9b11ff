"""What a database failed before anything was done is held and served anew; nothing is done twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import psycopg
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path
from tests.services.postgres_pair import PostgresPair
from tests.services.strong_world import (
    SOON,
    World,
    in_region,
    insert,
    install,
    stored,
    user_of_app,
    world,
)

from viral_engine.clock import wait_until
from viral_engine.errors import DatabaseError
from viral_engine.nodes.handover import WRITES_LOCK
from viral_engine.web.asgi import App
from viral_engine.web.problem import database_problem

MIB = 1024 * 1024
OWN_BACKEND = "select pg_terminate_backend(pg_backend_pid())"
WAITING = "select count(*) from pg_locks where locktype = 'advisory' and not granted"


class Service:
    """Adds numbers; ``fails`` says in which of its runs its connection breaks before the commit."""

    def __init__(self, here: World, *, fails: frozenset[int] = frozenset()) -> None:
        self.databases = here.databases
        self.fails = fails
        self.runs = 0
        self.after_commit = False

    def app(self) -> App:
        async def add(request: Request) -> Response:
            self.runs += 1
            value = (await request.json())["value"]
            if self.after_commit:
                await insert(self.databases, value)
                value += 1
            async with self.databases.writing() as connection:
                await connection.execute("insert into t values (%s)", [value])
                if self.runs in self.fails:
                    await connection.execute(OWN_BACKEND)
            return JSONResponse({"value": value}, 201)

        async def refused(_request: Request, error: Exception) -> Response:
            assert isinstance(error, DatabaseError)
            problem = database_problem(error)
            return JSONResponse({"code": problem.code}, problem.status)

        async def gave_up(_request: Request, _error: Exception) -> Response:
            return JSONResponse({"code": "the app's own"}, 503)

        return Starlette(
            routes=[Path("/add", add, methods=["POST"])],
            # Frameworks let an app answer for what its driver raises, before anybody else hears of it.
            exception_handlers={DatabaseError: refused, psycopg.OperationalError: gave_up},
        )


@asynccontextmanager
async def handing_over(pair: PostgresPair, database: str) -> AsyncIterator[None]:
    """Hold the lock that an operator holds who hands the primary over."""
    async with await psycopg.AsyncConnection.connect(
        pair.primary.url(database), autocommit=True
    ) as connection:
        await connection.execute("select pg_advisory_lock(%s)", [WRITES_LOCK])
        yield


async def test_a_write_waits_while_the_primary_is_handed_over_and_is_done_once(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with world(postgres_pair, numbers) as here:
        service = Service(here)
        async with user_of_app(in_region(service.app(), here)) as user:
            async with handing_over(postgres_pair, numbers):
                asked = asyncio.create_task(user.post("/add", json={"value": 1}))
                await wait_until(
                    lambda: service.runs >= 2, timeout=SOON, waiting_for="a second attempt"
                )
                assert not asked.done()
            answer = await asked
    assert answer.status_code == 201
    assert await stored(postgres_pair.primary, numbers) == [1]


async def test_who_hands_over_waits_for_the_writes_that_have_begun(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with world(postgres_pair, numbers) as here:
        async with here.databases.writing() as connection:
            await connection.execute("insert into t values (1)")
            taking = asyncio.create_task(_taken(postgres_pair, numbers))

            async def waits() -> bool:
                return await postgres_pair.primary.ask(WAITING) == 1

            await wait_until(waits, timeout=SOON, waiting_for="the operator to wait")
            with pytest.raises(DatabaseError, match="handed over"):
                async with here.databases.writing():
                    pass
        await asyncio.wait_for(taking, 10)
    assert await stored(postgres_pair.primary, numbers) == [1]


async def _taken(pair: PostgresPair, database: str) -> None:
    async with handing_over(pair, database):
        pass


async def test_a_write_that_broke_off_before_its_commit_is_done_anew_with_its_body(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with world(postgres_pair, numbers) as here:
        service = Service(here, fails=frozenset({1, 2}))
        async with user_of_app(in_region(service.app(), here)) as user:
            answer = await user.post("/add", json={"value": 7})
    assert (answer.status_code, answer.json(), service.runs) == (201, {"value": 7}, 3)
    assert await stored(postgres_pair.primary, numbers) == [7]


async def test_with_a_key_it_is_done_anew_as_well_and_kept_once(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    await install(postgres_pair, numbers, "data/schema.sql")
    async with world(postgres_pair, numbers) as here:
        service = Service(here, fails=frozenset({1}))
        async with user_of_app(in_region(service.app(), here)) as user:
            key = {"idempotency-key": "one"}
            answer = await user.post("/add", json={"value": 7}, headers=key)
            again = await user.post("/add", json={"value": 7}, headers=key)
    assert (answer.status_code, again.status_code, service.runs) == (201, 201, 2)
    assert again.headers["idempotency-replayed"] == "true"
    assert await stored(postgres_pair.primary, numbers) == [7]


async def test_what_has_committed_something_is_not_begun_anew(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with world(postgres_pair, numbers) as here:
        service = Service(here, fails=frozenset({1}))
        service.after_commit = True
        async with user_of_app(in_region(service.app(), here)) as user:
            answer = await user.post("/add", json={"value": 1})
    assert (answer.status_code, service.runs) == (503, 1)
    assert await stored(postgres_pair.primary, numbers) == [1]


async def test_a_body_that_was_too_long_to_keep_is_not_read_anew(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with world(postgres_pair, numbers) as here:
        service = Service(here, fails=frozenset({1}))
        async with user_of_app(in_region(service.app(), here)) as user:
            answer = await user.post("/add", json={"value": 1, "ballast": "x" * (MIB + 1)})
    assert (answer.status_code, service.runs) == (503, 1)
    assert await stored(postgres_pair.primary, numbers) == []


async def test_when_the_hold_is_over_the_answer_says_that_a_retry_is_safe(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with world(postgres_pair, numbers) as here:
        led = in_region(Service(here).app(), here, hold=timedelta(seconds=0.5))
        async with user_of_app(led) as user, handing_over(postgres_pair, numbers):
            answer = await user.post("/add", json={"value": 1})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["type"].endswith(":database-unavailable")
    assert await stored(postgres_pair.primary, numbers) == []
