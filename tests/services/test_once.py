"""A request with an idempotency key happens once, whatever is lost, repeated or raced."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path as Localpath
from uuid import uuid4

import httpx
import psycopg
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount
from starlette.routing import Route as Path
from tests.services.postgres_pair import PostgresPair
from tests.services.strong_world import (
    SOON,
    World,
    in_region,
    insert,
    install,
    stored,
    synchronous,
    until_waiting,
    user_of_app,
    world,
)
from tests.services.task_service import environ_of, user_of

from viral_engine.clock import wait_until
from viral_engine.data import Databases, SessionToken, TokenSigner
from viral_engine.lsn import Lsn
from viral_engine.topology.model import Consistency
from viral_engine.web.asgi import Message, Receive, Scope, Send

MIB = 1024 * 1024
INSERT = "insert into t values (%s)"


@pytest.fixture
async def kept(postgres_pair: PostgresPair, numbers: str) -> str:
    """The name of a database with the table ``t`` and what the runtime keeps."""
    await install(postgres_pair, numbers, "data/schema.sql")
    await postgres_pair.wait_until_replayed()
    return numbers


def _app(databases: Databases) -> Starlette:
    async def add(request: Request) -> Response:
        value = (await request.json())["value"]
        await insert(databases, value)
        status = int(request.query_params.get("status", "201"))
        if status == 1:
            raise RuntimeError("the handler fails")
        return JSONResponse(
            {"value": value, "answer": uuid4().hex}, status, headers={"x-own": uuid4().hex}
        )

    async def long(request: Request) -> Response:
        await insert(databases, 1)
        size = int(request.query_params["size"])

        async def parts() -> AsyncIterator[bytes]:
            yield b"x" * (size // 2)
            yield b"x" * (size - size // 2)

        return StreamingResponse(parts())

    async def file(_request: Request) -> Response:
        return FileResponse(__file__)

    async def size_of(request: Request) -> Response:
        return JSONResponse({"size": len(await request.body())})

    return Starlette(
        routes=[
            Path("/add", add, methods=["POST"]),
            Path("/long", long, methods=["POST"]),
            Path("/file", file, methods=["POST"]),
            Path("/size", size_of, methods=["POST"]),
            Mount("/", _parts(databases)),
        ]
    )


def _parts(databases: Databases) -> Starlette:
    async def half(_request: Request) -> Response:
        await insert(databases, 1)
        try:
            async with databases.writing() as connection:
                await connection.execute(INSERT, [2])
                await connection.execute(INSERT, [1])
        except psycopg.errors.UniqueViolation:
            return JSONResponse({"answer": uuid4().hex}, 409)
        raise AssertionError("the second row was taken")

    async def side_by_side(_request: Request) -> Response:
        async def one(value: int) -> int:
            async with databases.writing() as connection:
                await connection.execute(INSERT, [value])
                async with databases.reading() as again:
                    cursor = await again.execute("select pg_sleep(0.01), count(*) from t")
                    row = await cursor.fetchone()
                return int(row[1]) if row else 0

        return JSONResponse(sorted(await asyncio.gather(*map(one, range(5)))))

    async def bad_read(_request: Request) -> Response:
        await insert(databases, 1)
        try:
            async with databases.reading() as connection:
                await connection.execute("select 1 / 0")
        except psycopg.errors.DivisionByZero:
            return JSONResponse({"answer": uuid4().hex}, 400)
        raise AssertionError("it was divided")

    return Starlette(
        routes=[
            Path("/half", half, methods=["POST"]),
            Path("/bad-read", bad_read, methods=["POST"]),
            Path("/side-by-side", side_by_side, methods=["POST"]),
        ]
    )


@asynccontextmanager
async def _machine(
    pair: PostgresPair, database: str, *, declared: Consistency = Consistency.EVENTUAL
) -> AsyncIterator[tuple[httpx.AsyncClient, World]]:
    async with world(pair, database) as here:
        app = in_region(_app(here.databases), here, declared={"/": declared})
        async with user_of_app(app) as user:
            yield user, here


def _key(text: str = "k1", **more: str) -> dict[str, str]:
    return {"idempotency-key": text, **more}


async def test_of_fifty_equal_requests_on_two_machines_one_is_done_and_all_are_answered_the_same(
    postgres_pair: PostgresPair, kept: str
) -> None:
    async with AsyncExitStack() as stack:
        users = [
            (await stack.enter_async_context(_machine(postgres_pair, kept)))[0] for _ in range(2)
        ]

        async def add(number: int) -> httpx.Response:
            return await users[number % 2].post("/add", json={"value": 1}, headers=_key())

        answers = await asyncio.gather(*map(add, range(50)))
        # What found no free connection was refused before anything, and is simply asked again.
        while busy := [number for number in range(50) if answers[number].status_code == 503]:
            again = await asyncio.gather(*map(add, busy))
            for number, answer in zip(busy, again, strict=True):
                answers[number] = answer
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert len({answer.headers["x-own"] for answer in answers}) == 1
    replayed = Counter(answer.headers.get("idempotency-replayed") for answer in answers)
    assert replayed == {None: 1, "true": 49}
    assert await stored(postgres_pair.primary, kept) == [1]


async def test_an_answer_that_was_lost_after_the_commit_is_given_to_the_repetition(
    postgres_pair: PostgresPair, kept: str
) -> None:
    async with world(postgres_pair, kept) as here:
        app = in_region(_app(here.databases), here)
        lost: list[Message] = []

        async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
            async def gone(message: Message) -> None:
                lost.append(message)
                raise OSError("the client is gone")

            await app(scope, receive, send if lost else gone)

        async with user_of_app(breaks) as user:
            first = await user.post("/add", json={"value": 1}, headers=_key())
            assert first.status_code == 500
            assert lost[0]["status"] == 201
            second = await user.post("/add", json={"value": 1}, headers=_key())
            assert second.status_code == 201
            assert second.headers["idempotency-replayed"] == "true"
            own = dict(lost[0]["headers"])[b"x-own"]
            assert second.headers["x-own"] == own.decode()
    assert await stored(postgres_pair.primary, kept) == [1]


async def test_a_request_whose_client_gave_up_while_it_committed_is_done_once(
    postgres_pair: PostgresPair, kept: str
) -> None:
    async with (
        synchronous(postgres_pair),
        _machine(postgres_pair, kept, declared=Consistency.STRONG) as (user, _),
    ):
        async with postgres_pair.replay_paused():
            first = asyncio.create_task(user.post("/add", json={"value": 1}, headers=_key()))
            await until_waiting(postgres_pair.primary)
            first.cancel()
            await asyncio.wait({first})
            second = asyncio.create_task(user.post("/add", json={"value": 1}, headers=_key()))
            for _ in range(10):
                await until_waiting(postgres_pair.primary)
            assert not second.done()
        answer = await second
        assert answer.status_code == 201
        assert answer.headers["idempotency-replayed"] == "true"
    assert await stored(postgres_pair.primary, kept) == [1]


async def test_after_an_unknown_commit_the_first_answer_waits_until_another_region_has_it(
    postgres_pair: PostgresPair, kept: str
) -> None:
    async with (
        synchronous(postgres_pair),
        _machine(postgres_pair, kept, declared=Consistency.STRONG) as (user, _),
        _machine(postgres_pair, kept, declared=Consistency.STRONG) as (elsewhere, _),
        postgres_pair.replay_paused(),
    ):
        first = asyncio.create_task(user.post("/add", json={"value": 1}, headers=_key()))
        await until_waiting(postgres_pair.primary)
        await postgres_pair.primary.ask(
            "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'"
        )
        unknown = await first
        assert unknown.status_code == 504
        assert unknown.json()["type"].endswith(":unknown-outcome")
        second = asyncio.create_task(elsewhere.post("/add", json={"value": 1}, headers=_key()))
        await until_waiting(postgres_pair.primary)
        assert not second.done()
        await postgres_pair.replica.ask("select pg_wal_replay_resume()")
        answer = await second
        assert (answer.status_code, answer.headers["idempotency-replayed"]) == (201, "true")
        assert await stored(postgres_pair.replica, kept) == [1]


async def test_a_key_is_its_tenants_own_and_for_one_request_only(
    postgres_pair: PostgresPair, kept: str
) -> None:
    async with _machine(postgres_pair, kept) as (user, _):
        one = await user.post("/add", json={"value": 1}, headers=_key(**{"x-tenant": "one"}))
        two = await user.post("/add", json={"value": 2}, headers=_key(**{"x-tenant": "two"}))
        assert (one.status_code, two.status_code) == (201, 201)
        assert (one.json()["value"], two.json()["value"]) == (1, 2)
        for path, body in (("/add", {"value": 3}), ("/add?status=200", {"value": 1})):
            reused = await user.post(path, json=body, headers=_key(**{"x-tenant": "one"}))
            assert reused.status_code == 422
            assert reused.json()["type"].endswith(":idempotency-key-reused")
            assert "x-own" not in reused.headers
    assert await stored(postgres_pair.primary, kept) == [1, 2]


@pytest.mark.parametrize("status", [500, 503, 1])
async def test_a_request_that_failed_leaves_nothing_and_its_repetition_is_done(
    postgres_pair: PostgresPair, kept: str, status: int
) -> None:
    async with _machine(postgres_pair, kept) as (user, _):
        for _ in range(2):
            failed = await user.post(f"/add?status={status}", json={"value": 1}, headers=_key())
            assert failed.status_code == (500 if status == 1 else status)
            assert "idempotency-replayed" not in failed.headers
            assert await stored(postgres_pair.primary, kept) == []
        done = await user.post("/add", json={"value": 1}, headers=_key())
        assert done.status_code == 201
        assert "idempotency-replayed" not in done.headers
    assert await stored(postgres_pair.primary, kept) == [1]


async def test_a_refusal_is_kept_and_so_is_what_was_done_before_it(
    postgres_pair: PostgresPair, kept: str
) -> None:
    async with _machine(postgres_pair, kept) as (user, _):
        refused = await user.post("/add?status=404", json={"value": 1}, headers=_key())
        again = await user.post("/add?status=404", json={"value": 1}, headers=_key())
        assert (refused.status_code, again.status_code) == (404, 404)
        assert again.json() == refused.json()
        assert again.headers["idempotency-replayed"] == "true"


async def test_a_part_that_failed_is_undone_by_itself_where_the_handler_answers_for_it(
    postgres_pair: PostgresPair, kept: str
) -> None:
    async with _machine(postgres_pair, kept) as (user, _):
        answers = [await user.post("/half", headers=_key()) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [409, 409]
        assert answers[0].json() == answers[1].json()
        assert answers[1].headers["idempotency-replayed"] == "true"
    assert await stored(postgres_pair.primary, kept) == [1]


async def test_a_read_that_failed_does_not_undo_what_the_handler_answers_for(
    postgres_pair: PostgresPair, kept: str
) -> None:
    async with _machine(postgres_pair, kept) as (user, _):
        answers = [await user.post("/bad-read", headers=_key()) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [400, 400]
        assert answers[0].json() == answers[1].json()
    assert await stored(postgres_pair.primary, kept) == [1]


async def test_parts_of_one_request_that_run_side_by_side_take_turns(
    postgres_pair: PostgresPair, kept: str
) -> None:
    async with _machine(postgres_pair, kept) as (user, _):
        answers = [await user.post("/side-by-side", headers=_key()) for _ in range(2)]
        assert [answer.json() for answer in answers] == [[1, 2, 3, 4, 5]] * 2
    assert await stored(postgres_pair.primary, kept) == [0, 1, 2, 3, 4]


async def test_a_file_is_kept_like_any_other_answer_whatever_the_server_can_do(
    postgres_pair: PostgresPair, kept: str
) -> None:
    async with world(postgres_pair, kept) as here:
        app = in_region(_app(here.databases), here)

        async def server(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "extensions": {"http.response.pathsend": {}}}, receive, send)

        async with user_of_app(server) as user:
            answers = [await user.post("/file", headers=_key()) for _ in range(2)]
            own = Localpath(__file__).read_bytes()
            assert [answer.content for answer in answers] == [own, own]


async def test_keys_bodies_and_answers_have_limits(postgres_pair: PostgresPair, kept: str) -> None:
    async with _machine(postgres_pair, kept) as (user, _):
        for bad in ("", "x" * 256, "tab\there", "\x7f"):
            answer = await user.post("/add", json={"value": 1}, headers=_key(bad))
            assert answer.status_code == 400, bad
            assert answer.json()["type"].endswith(":bad-idempotency-key")
        twice = [("idempotency-key", "a"), ("idempotency-key", "b")]
        assert (await user.post("/add", json={"value": 1}, headers=twice)).status_code == 400
        fits = await user.post("/size", content=b"x" * MIB, headers=_key("x" * 255))
        assert fits.json() == {"size": MIB}
        too_large = await user.post("/size", content=b"x" * (MIB + 1), headers=_key("large"))
        assert too_large.status_code == 413
        assert await stored(postgres_pair.primary, kept) == []
        long = await user.post("/long", params={"size": MIB + 1}, headers=_key("long"))
        assert long.status_code == 500
        assert long.json()["type"].endswith(":answer-too-long")
        assert await stored(postgres_pair.primary, kept) == []
        shorter = [
            await user.post("/long", params={"size": MIB}, headers=_key("long")) for _ in range(2)
        ]
        assert [answer.content for answer in shorter] == [b"x" * MIB] * 2
        assert await stored(postgres_pair.primary, kept) == [1]


async def test_the_token_of_each_answer_covers_the_write_the_repeated_one_too(
    postgres_pair: PostgresPair, kept: str
) -> None:
    signer = TokenSigner("shared")
    async with _machine(postgres_pair, kept) as (user, _):
        for _ in range(2):
            answer = await user.post("/add", json={"value": 1}, headers=_key())
            user.cookies.clear()
            token = signer.read(answer.headers["viral-session"])
            assert isinstance(token, SessionToken)
            head = await postgres_pair.primary.ask("select pg_current_wal_flush_lsn()::text")
            assert token.position <= Lsn.parse(str(head))
            await postgres_pair.wait_until_replayed()
            assert await stored(postgres_pair.replica, kept) == [1]
        assert answer.headers["idempotency-replayed"] == "true"


async def test_without_its_table_a_request_with_a_key_is_refused_with_the_remedy(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with _machine(postgres_pair, numbers) as (user, _):
        refused = await user.post("/add", json={"value": 1}, headers=_key())
        assert refused.status_code == 503
        assert refused.json()["type"].endswith(":not-installed"), refused.text
        assert "schema.sql" in refused.json()["detail"]
        assert await stored(postgres_pair.primary, numbers) == []
        await install(postgres_pair, numbers, "data/schema.sql")
        assert (await user.post("/add", json={"value": 1}, headers=_key())).status_code == 201


async def test_a_first_answer_of_an_older_version_is_given_as_far_as_it_is_known(
    postgres_pair: PostgresPair, kept: str
) -> None:
    async with _machine(postgres_pair, kept) as (user, _):
        await user.post("/add", json={"value": 1}, headers=_key())
        await postgres_pair.primary.ask(
            "update viral.first_answers set headers = null, body = null", kept
        )
        again = await user.post("/add", json={"value": 1}, headers=_key())
        assert (again.status_code, again.content) == (201, b"")
        await postgres_pair.primary.ask("update viral.first_answers set status = null", kept)
        unknown = await user.post("/add", json={"value": 1}, headers=_key())
        assert unknown.status_code == 504, unknown.text
        assert unknown.json()["type"].endswith(":unknown-outcome")
    assert await stored(postgres_pair.primary, kept) == [1]


async def test_first_answers_are_forgotten_after_a_day_and_the_key_is_free_again(
    postgres_pair: PostgresPair, kept: str
) -> None:
    async with _machine(postgres_pair, kept) as (user, _):
        await user.post("/add", json={"value": 1}, headers=_key())
        await postgres_pair.primary.ask(
            "update viral.first_answers set created_at = now() - interval '25 hours'", kept
        )
        again = await user.post("/add?status=202", json={"value": 2}, headers=_key())
        assert again.status_code == 202
        assert "idempotency-replayed" not in again.headers
    assert await stored(postgres_pair.primary, kept) == [1, 2]


async def test_the_bundled_service_creates_a_task_once(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    await install(postgres_pair, migrated, "data/schema.sql")
    async with user_of(environ_of(postgres_pair, migrated, "iad")) as user:

        async def is_ready() -> bool:
            return (await user.get("/api/tasks")).is_success

        await wait_until(is_ready, timeout=SOON, waiting_for="the primary")
        answers = [
            await user.post("/api/tasks", json={"title": "x"}, headers=_key()) for _ in range(3)
        ]
        assert {answer.status_code for answer in answers} == {201}
        assert len({json.dumps(answer.json()) for answer in answers}) == 1
        assert len({answer.headers["location"] for answer in answers}) == 1
        assert len((await user.get("/api/tasks")).json()["items"]) == 1
