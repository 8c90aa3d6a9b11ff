"""What a transaction for writing has read counts as any read, also where it commits nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import psycopg
import pytest
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path
from tests.services.orm_world import NEAR, Thing, in_london
from tests.services.postgres_pair import PostgresPair
from tests.services.strong_world import (
    World,
    in_region,
    insert,
    install,
    primacy_file,
    user_of_app,
    world,
)

from viral_engine.data import Need, RequestRoute, Route, RouteKind, routed
from viral_engine.data.blocks import at_primary
from viral_engine.errors import NoPrimaryError
from viral_engine.lsn import Lsn
from viral_engine.topology.model import Consistency
from viral_engine.web.asgi import Receive, Scope, Send

HERE = Route(RouteKind.LOCAL, "primary-here", "iad")
FLUSHED = "select pg_current_wal_flush_lsn()"


async def flushed(pair: PostgresPair) -> Lsn:
    return Lsn.parse(str(await pair.primary.ask(FLUSHED)))


def holds(bound: RequestRoute, position: Lsn) -> bool:
    token = bound.session.token
    return token is not None and token.position >= position


class UndoneError(Exception):
    """What a handler raises of what it has read."""


@pytest.mark.parametrize("statement", ["select count(*) from thing", "select 1 / 0"])
async def test_what_was_read_before_it_was_undone_is_counted_in(
    postgres_pair: PostgresPair, things: str, statement: str
) -> None:
    async def read_and_raise() -> None:
        async with london.databases.writing() as connection:
            await connection.execute(statement.encode())
            raise UndoneError

    async with in_london(postgres_pair, things) as london:
        await london.add(1)
        seen = await flushed(postgres_pair)
        with routed(NEAR, need=Need.PRIMARY) as bound:
            with pytest.raises((UndoneError, psycopg.errors.DivisionByZero)):
                await read_and_raise()
            assert holds(bound, seen)
            assert not bound.session.wrote


async def test_a_session_that_writes_nothing_and_is_closed_is_counted_in(
    postgres_pair: PostgresPair, things: str
) -> None:
    async with in_london(postgres_pair, things) as london:
        await london.add(1)
        seen = await flushed(postgres_pair)
        with routed(NEAR, need=Need.PRIMARY) as bound:
            async with london.sessions() as session:
                assert list(await session.scalars(select(Thing.value))) == [1]
            assert holds(bound, seen)


def refuses_what_it_has_read(here: World) -> Starlette:
    """An app that reads in a transaction for writing and answers that it is there already."""

    async def create(_request: Request) -> Response:
        async with here.databases.writing() as connection:
            cursor = await connection.execute("select max(value) from t")
            if (row := await cursor.fetchone()) and row[0] is not None:
                raise HTTPException(409, f"{row[0]} is there")
        return JSONResponse({}, 201)

    return Starlette(routes=[Path("/things", create, methods=["POST"])])


@asynccontextmanager
async def strong_app(
    pair: PostgresPair, database: str
) -> AsyncIterator[tuple[World, httpx.AsyncClient]]:
    async with world(pair, database) as here:
        declared = {"things": Consistency.STRONG}
        app = in_region(refuses_what_it_has_read(here), here, declared=declared)
        async with user_of_app(app) as user:
            yield here, user


async def test_a_refusal_for_what_was_read_is_not_answered_by_who_cannot_prove_to_be_primary(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    await install(postgres_pair, numbers, "cluster/functions.sql")
    with primacy_file(postgres_pair.primary) as primacy:
        async with strong_app(postgres_pair, numbers) as (here, user):
            async with primacy.held():
                await insert(here.databases, 1)
                kept = await user.post("/things")
            lapsed = await user.post("/things")
    assert (kept.status_code, lapsed.status_code) == (409, 503), lapsed.text
    assert "viral-session" in kept.headers


async def test_an_answer_that_begins_in_a_failed_transaction_counts_it_in_and_it_stays_failed(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    refused: list[Exception] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        try:
            async with here.databases.writing() as connection:
                with pytest.raises(psycopg.errors.DivisionByZero):
                    await connection.execute("select 1 / 0")
                await send({"type": "http.response.start", "status": 409, "headers": []})
        except psycopg.Error as error:
            refused.append(error)
        await send({"type": "http.response.body", "body": b""})

    async with world(postgres_pair, numbers) as here, user_of_app(in_region(app, here)) as user:
        answer = await user.post("/")
    assert answer.status_code == 409
    assert "viral-session" in answer.headers
    assert [type(one) for one in refused] == [psycopg.errors.InFailedSqlTransaction]


async def test_outside_of_a_request_too_a_read_at_the_primary_is_proven(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    await install(postgres_pair, numbers, "cluster/functions.sql")

    async def read(here: World) -> Sequence[object]:
        with at_primary():
            async with here.databases.reading() as connection:
                return await (await connection.execute("select value from t")).fetchall()

    with primacy_file(postgres_pair.primary) as primacy:
        async with world(postgres_pair, numbers) as here:
            async with primacy.held():
                assert await read(here) == []
            with pytest.raises(NoPrimaryError, match="could not prove"):
                await read(here)
