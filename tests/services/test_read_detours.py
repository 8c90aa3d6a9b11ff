"""What a read-only connection refuses is done once where the primary is, and never twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import psycopg
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path
from tests.services.postgres_pair import PostgresPair
from tests.services.strong_world import (
    SOON,
    in_region,
    set_system,
    stored,
    user_of_app,
    world,
)

from viral_engine.clock import wait_until
from viral_engine.data import Databases
from viral_engine.errors import DatabaseError

ADD_ONE = """
create function add_one() returns void language plpgsql volatile
as 'begin insert into t values (1); end'
"""
SLOW = b"select value from t, pg_sleep(case when pg_is_in_recovery() then 8 else 0 end) order by 1"
STATEMENTS = {
    "insert": "insert into t values (1)",
    "cte": "with x as (insert into t values (1) returning value) select value from x",
    "lock": "select value from t for no key update",
    "nextval": "select nextval('numbers')",
    "function": "select add_one()",
}


@dataclass
class Calls:
    """How often each path's handler ran in a region."""

    ran: int = 0


def _app(databases: Databases, calls: Calls) -> Starlette:
    async def run(request: Request) -> Response:
        calls.ran += 1
        statement = STATEMENTS[request.path_params["name"]].encode()
        try:
            async with databases.reading() as connection:
                await connection.execute(statement)
        except psycopg.Error:
            if "swallow" not in request.query_params:
                raise
            return JSONResponse({"error": "the handler's own"}, 418)
        return JSONResponse({"done": True}, headers={"x-own": "yes"})

    async def selected(_request: Request) -> Response:
        calls.ran += 1
        rows = await databases.select(SLOW, {}, row_factory=psycopg.rows.scalar_row)
        return JSONResponse({"rows": list(rows)})

    async def block(_request: Request) -> Response:
        calls.ran += 1
        try:
            async with databases.reading() as connection:
                cursor = await connection.execute(SLOW)
                rows = await cursor.fetchall()
        except DatabaseError:
            return JSONResponse({"error": "the handler's own"}, 418)
        return JSONResponse({"rows": [row[0] for row in rows]})

    async def read_only(_request: Request) -> Response:
        async with databases.reading() as connection:
            await connection.execute("set local transaction_read_only = on")
            await connection.execute("insert into t values (2)")
        raise AssertionError("it was written")

    return Starlette(
        routes=[
            Path("/run/{name}", run, methods=["GET"]),
            Path("/select", selected),
            Path("/block", block),
            Path("/read-only", read_only),
        ]
    )


@dataclass(frozen=True)
class Machine:
    user: httpx.AsyncClient
    calls: Calls


@asynccontextmanager
async def _machine(pair: PostgresPair, database: str, region: str) -> AsyncIterator[Machine]:
    calls = Calls()
    async with world(pair, database, region) as here:
        app = in_region(_app(here.databases, calls), here, region=region)
        async with user_of_app(app) as user:
            yield Machine(user, calls)


def _sent_on(answer: httpx.Response, *, reason: str) -> dict[str, str]:
    """Return what the platform's proxy adds when it brings a request where ``answer`` says."""
    assert answer.status_code == 409, answer.text
    region, state, *_or_back = answer.headers["fly-replay"].split(";")
    assert region == "region=iad"
    assert state.startswith(f"state=2.iad.{reason}.")
    assert answer.headers["viral-route"].startswith(f"replay; reason={reason}")
    assert "x-own" not in answer.headers
    assert "own" not in answer.text
    return {"fly-replay-src": f"instance=lhr-1;region=lhr;{state}"}


@pytest.fixture
async def schema(postgres_pair: PostgresPair, numbers: str) -> str:
    for statement in (
        "create sequence numbers",
        ADD_ONE,
    ):
        await postgres_pair.primary.ask(statement, numbers)
    await postgres_pair.wait_until_replayed()
    return numbers


@pytest.mark.parametrize("asked", ["", "?swallow=1"])
async def test_r10_a_raw_insert_in_a_read_is_sent_on_to_the_primary_and_done_once(
    postgres_pair: PostgresPair, schema: str, asked: str
) -> None:
    async with (
        _machine(postgres_pair, schema, "lhr") as lhr,
        _machine(postgres_pair, schema, "iad") as iad,
    ):
        refused = await lhr.user.get(f"/run/insert{asked}")
        headers = _sent_on(refused, reason="write-in-read")
        assert await stored(postgres_pair.primary, schema) == []
        done = await iad.user.get(f"/run/insert{asked}", headers=headers)
        assert (done.status_code, done.json()) == (200, {"done": True})
        assert done.headers["viral-route"].startswith("local; reason=primary-here")
        assert "viral-session" in done.headers
        assert (lhr.calls.ran, iad.calls.ran) == (1, 1)
    assert await stored(postgres_pair.primary, schema) == [1]


async def test_r10_in_the_primarys_own_region_it_is_sent_once_round_the_proxy(
    postgres_pair: PostgresPair, schema: str
) -> None:
    async with _machine(postgres_pair, schema, "iad") as iad:
        headers = _sent_on(await iad.user.get("/run/insert"), reason="write-in-read")
        assert (await iad.user.get("/run/insert", headers=headers)).status_code == 200
    assert await stored(postgres_pair.primary, schema) == [1]


async def test_r10_r17_a_request_that_was_sent_on_is_never_sent_on_again(
    postgres_pair: PostgresPair, schema: str
) -> None:
    async with (
        _machine(postgres_pair, schema, "lhr") as lhr,
        _machine(postgres_pair, schema, "iad") as iad,
    ):
        headers = _sent_on(await lhr.user.get("/run/insert"), reason="write-in-read")
        # It comes to a region that is not the primary's, as when that has moved meanwhile.
        misled = await lhr.user.get("/run/insert", headers=headers)
        assert (misled.status_code, "fly-replay" in misled.headers) == (200, False)
        assert misled.headers["viral-route"].startswith("primary; reason=moved")
        assert lhr.calls.ran == 2
        # It is refused where the primary is as well.
        refused = await iad.user.get("/read-only", headers=headers)
        assert refused.status_code >= 500
        assert "fly-replay" not in refused.headers
        forged = {"fly-replay-src": headers["fly-replay-src"][:-2] + "xx"}
        assert (await iad.user.get("/run/insert", headers=forged)).status_code == 409
    assert await stored(postgres_pair.primary, schema) == [1]


@pytest.mark.parametrize("name", ["cte", "lock", "nextval", "function"])
async def test_r11_what_writes_without_saying_so_is_refused_by_every_node_and_sent_on(
    postgres_pair: PostgresPair, schema: str, name: str
) -> None:
    for server in (postgres_pair.replica, postgres_pair.primary):
        async with await psycopg.AsyncConnection.connect(
            server.url(schema), autocommit=True, options="-c default_transaction_read_only=on"
        ) as connection:
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction) as refusal:
                await connection.execute(STATEMENTS[name].encode())
            assert refusal.value.sqlstate == "25006"
    async with (
        _machine(postgres_pair, schema, "lhr") as lhr,
        _machine(postgres_pair, schema, "iad") as iad,
    ):
        headers = _sent_on(await lhr.user.get(f"/run/{name}"), reason="write-in-read")
        assert (await iad.user.get(f"/run/{name}", headers=headers)).status_code == 200
        assert (lhr.calls.ran, iad.calls.ran) == (1, 1)
    last = await postgres_pair.primary.ask("select last_value from numbers where is_called", schema)
    assert last == (1 if name == "nextval" else None)
    written = [1] if name in {"cte", "function"} else []
    assert await stored(postgres_pair.primary, schema) == written


@asynccontextmanager
async def _impatient(pair: PostgresPair) -> AsyncIterator[None]:
    """Let the replica give up whatever stands in the way of replay."""
    await set_system(pair.replica, "max_standby_streaming_delay", "0")
    try:
        yield
    finally:
        await set_system(pair.replica, "max_standby_streaming_delay", None)


async def _conflict_with(pair: PostgresPair, database: str) -> None:
    """Take a lock at the primary that a statement at the replica stands in the way of."""
    running = "select count(*) from pg_stat_activity where query like '%from t, pg_sleep%'"
    running += " and state = 'active' and pid <> pg_backend_pid()"

    async def runs() -> bool:
        return await pair.replica.ask(running, database) == 1

    await wait_until(runs, timeout=SOON, waiting_for="the statement to run at the replica")
    await pair.primary.ask("alter table t alter value set statistics 10", database)
    await pair.primary.ask("begin; lock table t in access exclusive mode; commit", database)


async def test_r25_a_statement_that_a_replica_gives_up_is_answered_by_the_primary_at_once(
    postgres_pair: PostgresPair, schema: str
) -> None:
    await postgres_pair.primary.ask("insert into t values (1)", schema)
    await postgres_pair.wait_until_replayed()
    async with _impatient(postgres_pair), _machine(postgres_pair, schema, "lhr") as lhr:
        asked = asyncio.create_task(lhr.user.get("/select"))
        await _conflict_with(postgres_pair, schema)
        answer = await asked
        assert (answer.status_code, answer.json()) == (200, {"rows": [1]})
        assert "fly-replay" not in answer.headers
        assert "viral-session" in answer.headers
        assert lhr.calls.ran == 1
        # It was the primary that answered, and the header says so.
        assert answer.headers["viral-route"] == "primary; reason=recovery-conflict"
        assert "viral-staleness" not in answer.headers


async def test_r25_a_block_that_a_replica_gives_up_is_sent_on_to_the_primary(
    postgres_pair: PostgresPair, schema: str
) -> None:
    await postgres_pair.primary.ask("insert into t values (1)", schema)
    await postgres_pair.wait_until_replayed()
    async with (
        _impatient(postgres_pair),
        _machine(postgres_pair, schema, "lhr") as lhr,
        _machine(postgres_pair, schema, "iad") as iad,
    ):
        asked = asyncio.create_task(lhr.user.get("/block"))
        await _conflict_with(postgres_pair, schema)
        headers = _sent_on(await asked, reason="recovery-conflict")
        done = await iad.user.get("/block", headers=headers)
        assert (done.status_code, done.json()) == (200, {"rows": [1]})
        assert lhr.calls.ran == 1
        # The connection that was given up harms nobody after it.
        assert (await lhr.user.get("/select")).json() == {"rows": [1]}
