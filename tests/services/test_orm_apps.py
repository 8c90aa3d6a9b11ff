"""An app on the runtime, by SQLAlchemy, keeps the promises of a request: one node, one effect, no staleness."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files
from typing import Annotated

import httpx
import psycopg
import pytest
from fastapi import Depends, FastAPI
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from tests.services.asgi_life import living
from tests.services.orm_world import SOON, Thing
from tests.services.postgres_pair import PostgresPair

from viral_engine.clock import wait_until
from viral_engine.data.blocks import at_primary
from viral_engine.web.asgi import App
from viral_engine.web.runtime import Runtime

Apps = tuple[httpx.AsyncClient, httpx.AsyncClient]


async def _opened(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session


Opened = Annotated[AsyncSession, Depends(_opened)]


def app_of(runtime: Runtime) -> App:
    app = FastAPI()
    app.state.sessions = runtime.sessions(expire_on_commit=False)

    @app.get("/things")
    @app.get("/strong")
    async def things(session: Opened) -> list[int]:
        return list(await session.scalars(select(Thing.value).order_by(Thing.value)))

    @app.get("/surely")
    async def surely(session: Opened) -> list[int]:
        with at_primary():
            return list(await session.scalars(select(Thing.value).order_by(Thing.value)))

    @app.post("/things/{value}")
    @app.post("/strong/{value}")
    async def add(value: int, session: Opened) -> int:
        session.add(Thing(value=value))
        await session.commit()
        return value

    @app.get("/touch/{value}")
    async def touch(value: int, session: Opened) -> str:
        await session.execute(text("insert into thing (value) values (:v)"), {"v": value})
        await session.commit()
        return "touched"

    @app.get("/swallow/{value}")
    async def swallow(value: int, session: Opened) -> str:
        try:
            await session.execute(text("insert into thing (value) values (:v)"), {"v": value})
            await session.commit()
        except DBAPIError as error:
            logging.getLogger("app").info("not counted: %s", error)
            return "not counted"
        return "counted"

    return runtime.wrap(app)


def environ_of(pair: PostgresPair, database: str, region: str) -> dict[str, str]:
    return {
        "FLY_REGION": region,
        "PRIMARY_REGION": "iad",
        "FLY_MACHINE_ID": f"{region}-1",
        "DATABASE_URL": pair.primary.url(database),
        "READ_REPLICA_IAD_URL": pair.primary.url(database),
        "READ_REPLICA_LHR_URL": pair.replica.url(database),
        "VIRAL_SECRET": "shared",
        "VIRAL_CONSISTENCY": '{"/strong": "strong"}',
    }


@pytest.fixture
async def apps(postgres_pair: PostgresPair, things: str) -> AsyncIterator[Apps]:
    """Users of the app in ``iad`` and in ``lhr``."""
    async with AsyncExitStack() as stack:
        users = []
        for region in ("iad", "lhr"):
            runtime = Runtime.from_environ(environ_of(postgres_pair, things, region))
            users.append(await stack.enter_async_context(_user_of(runtime)))
        yield users[0], users[1]


@asynccontextmanager
async def _user_of(runtime: Runtime) -> AsyncIterator[httpx.AsyncClient]:
    app = app_of(runtime)
    transport = httpx.ASGITransport(app=app)
    async with living(app), httpx.AsyncClient(transport=transport, base_url="http://app") as user:
        await runtime.cluster.wait_for(
            lambda view: all(node.reachable for node in view.nodes), timeout=SOON
        )
        yield user


def _handed_over(answer: httpx.Response) -> dict[str, str]:
    """The header by which the platform's proxy brings a replayed request."""
    assert answer.status_code == 409, answer.text
    region, state, *_or_back = answer.headers["fly-replay"].split(";")
    assert region == "region=iad"
    return {"fly-replay-src": f"instance=x;region=lhr;t=1;{state}"}


@pytest.mark.parametrize(("path", "said"), [("touch", "touched"), ("swallow", "counted")])
async def test_r10_what_a_read_wrote_is_forwarded_once_and_done_once(
    postgres_pair: PostgresPair, things: str, apps: Apps, path: str, said: str
) -> None:
    iad, lhr = apps
    for value, near in enumerate((lhr, iad)):
        sent = _handed_over(await near.get(f"/{path}/{value}"))
        counted = await postgres_pair.primary.ask("select count(*) from thing", things)
        assert counted == 2 * value
        done = await iad.get(f"/{path}/{value}", headers=sent)
        assert (done.status_code, done.json()) == (200, said)
        # Where the primary has moved on meanwhile: asked over the wire, and not sent round.
        late = await lhr.get(f"/{path}/{10 + value}", headers=sent)
        assert (late.status_code, "fly-replay" in late.headers) == (200, False)
    assert await postgres_pair.primary.ask("select count(*) from thing", things) == 4


async def test_an_answer_carries_what_a_session_read_that_ends_after_it(
    postgres_pair: PostgresPair, apps: Apps
) -> None:
    iad, lhr = apps
    async with postgres_pair.replay_paused():
        created = await iad.post("/things/1")
        assert created.json() == 1
        read = await iad.get("/things")
        assert read.json() == [1]
        for token in (created.headers["viral-session"], read.headers["viral-session"]):
            own = await lhr.get("/things", headers={"viral-session": token})
            assert own.json() == [1]
            assert own.headers["viral-route"] == "primary; reason=replica-behind"
        assert (await lhr.get("/things")).json() == []
        surely = await lhr.get("/surely")
        assert surely.json() == [1]
        assert surely.headers["viral-route"] == "primary; reason=asked-for"


async def test_what_is_declared_strong_is_read_where_the_primary_is(apps: Apps) -> None:
    iad, lhr = apps
    assert _handed_over(await lhr.post("/strong/1"))
    assert (await iad.post("/strong/1")).json() == 1
    sent = _handed_over(await lhr.get("/strong"))
    read = await iad.get("/strong", headers=sent)
    assert read.json() == [1]
    assert read.headers["viral-route"].startswith("local; reason=primary-here")


async def test_a_request_with_an_idempotency_key_is_one_transaction_and_has_one_effect(
    postgres_pair: PostgresPair, things: str, apps: Apps
) -> None:
    schema = files("viral_engine.data").joinpath("schema.sql").read_bytes()
    async with await psycopg.AsyncConnection.connect(
        postgres_pair.primary.url(things), autocommit=True
    ) as connection:
        await connection.execute(schema)
    iad, lhr = apps
    key = {"idempotency-key": "k1"}
    first = await iad.post("/things/1", headers=key)
    again = await iad.post("/things/1", headers=key)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json() == first.json() == 1
    assert again.headers["idempotency-replayed"] == "true"
    own = {"viral-session": first.headers["viral-session"]}
    assert (await lhr.get("/things", headers=own)).json() == [1]


async def test_while_the_primary_is_away_reads_go_on_and_writes_say_so(
    postgres_pair: PostgresPair, apps: Apps
) -> None:
    iad, lhr = apps
    assert (await iad.post("/things/1")).json() == 1
    await postgres_pair.wait_until_replayed()
    postgres_pair.primary.stop("immediate")
    try:
        read = await lhr.get("/things")
        assert read.json() == [1], read.text
        refused = await iad.post("/things/2")
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["content-type"] == "application/problem+json"
    finally:
        postgres_pair.primary.start()

    async def is_written() -> bool:
        return (await iad.post("/things/3")).status_code == 200

    await wait_until(is_written, timeout=SOON, waiting_for="writes at the primary")
    await postgres_pair.wait_until_replayed()
