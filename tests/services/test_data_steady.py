"""Locks, idleness, other versions, sockets and jobs: what must not disturb where work is served."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

import psycopg
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from tests.services.postgres_pair import PostgresPair
from tests.services.strong_world import (
    SOON,
    World,
    in_region,
    insert,
    stored,
    user_of_app,
    values,
    world,
)

from viral_engine.clock import NotYet, wait_until
from viral_engine.cluster import ClusterView
from viral_engine.data import Need, Session, current_route
from viral_engine.topology.model import Consistency
from viral_engine.web.asgi import App, Message, Scope


@asynccontextmanager
async def _locked_row(pair: PostgresPair, database: str) -> AsyncIterator[None]:
    async with await psycopg.AsyncConnection.connect(pair.primary.url(database)) as somebody:
        await somebody.execute("select value from t where value = 1 for update")
        yield


async def test_r18_a_row_that_somebody_holds_for_long_makes_nobody_take_the_primary_for_gone(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    await postgres_pair.primary.ask("insert into t values (1)", numbers)
    async with world(postgres_pair, numbers, pool_size=3) as here, AsyncExitStack() as stack:
        seen: list[ClusterView] = []
        await stack.enter_async_context(_locked_row(postgres_pair, numbers))

        async def change(limit: str) -> None:
            async with here.databases.writing() as connection:
                await connection.execute(f"set local statement_timeout = '{limit}'".encode())
                await connection.execute("update t set value = -1 where value = 1")

        waiting = asyncio.create_task(change("30s"))
        number, over_at = 10, monotonic() + 5
        with pytest.raises(psycopg.errors.QueryCanceled):
            await change("100ms")
        while monotonic() < over_at:
            number += 1
            async with here.router.work(need=Need.PRIMARY) as bound:
                assert bound.route.name == "local; reason=primary-here"
                await insert(here.databases, number)
            async with here.router.work(consistency=Consistency.STRONG):
                assert number in await values(here.databases)
            seen.append(here.cluster.view)
            await asyncio.sleep(0.05)
        assert {view.primary_region for view in seen} == {"iad"}
        assert all(node.reachable for view in seen for node in view.nodes)
        assert not waiting.done()
        await stack.aclose()
        await waiting
        assert -1 in await stored(postgres_pair.primary, numbers)


async def test_r19_while_nothing_is_written_a_replica_stays_in_use_and_calls_itself_fresh(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    await postgres_pair.primary.ask("insert into t values (1)", numbers)
    await postgres_pair.wait_until_replayed()
    async with world(postgres_pair, numbers, "lhr") as here:
        app = in_region(_app(here), here, region="lhr")
        async with user_of_app(app) as user:

            async def last_write_is_old() -> bool | NotYet:
                age = await postgres_pair.replica.ask(
                    "select extract(epoch from now() - pg_last_xact_replay_timestamp())::float8"
                )
                return float(str(age)) > 3 or NotYet(f"{age} s")

            await wait_until(last_write_is_old, timeout=SOON, waiting_for="an idle while")
            answer = await user.get("/values")
            assert answer.headers["viral-route"] == "local; reason=replica"
            assert float(answer.headers["viral-staleness"]) < 0.5
            async with postgres_pair.replay_paused():
                await postgres_pair.primary.ask("insert into t values (2)", numbers)

                async def grows() -> bool | NotYet:
                    said = (await user.get("/values")).headers["viral-staleness"]
                    return float(said) > 3 or NotYet(said)

                await wait_until(grows, timeout=SOON, waiting_for="what is behind to say so")


def _app(here: World) -> Starlette:
    async def show(_request: Request) -> Response:
        return JSONResponse(await values(here.databases))

    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            if text.startswith("write "):
                await insert(here.databases, int(text.removeprefix("write ")))
            else:
                rows = await values(here.databases)
                bound = current_route()
                assert bound
                await socket.send_text(json.dumps({"rows": rows, "route": bound.route.name}))
                continue
            await socket.send_text("done")

    return Starlette(routes=[Path("/values", show), WebSocketRoute("/talk", talk)])


def _signed(form: str, payload: bytes) -> str:
    """Return a token of another form, signed with the same secret as ours."""
    key = hmac.digest(b"shared", b"viral-session key id", hashlib.sha256)[:4].hex()
    claim = b"viral-session %b %d %b %b" % (key.encode(), 0, b"", payload)
    mac = hmac.digest(b"shared", claim, hashlib.sha256)[:16]
    body = base64.urlsafe_b64encode(payload + mac).rstrip(b"=").decode()
    return f"{form}.{key}.{body}"


@pytest.mark.parametrize(
    "token",
    [
        _signed("1", struct.pack(">BQIQQ", 1, 7, 1, 0x3000060, 0)),
        _signed("9", bytes(64)),
        _signed("2", struct.pack(">QIQQQQ", 7, 1, 0x3000060, 0, 0, 0)),
        _signed("2", bytes(70)),
    ],
)
async def test_r26_a_token_of_another_version_is_none_and_its_request_is_served(
    postgres_pair: PostgresPair, numbers: str, token: str
) -> None:
    async with (
        world(postgres_pair, numbers, "lhr") as here,
        user_of_app(in_region(_app(here), here, region="lhr")) as user,
    ):
        answer = await user.get("/values", headers={"viral-session": token})
        assert answer.status_code == 200
        assert answer.headers["viral-session-ignored"] == "malformed"
        assert "viral-session" in answer.headers


@dataclass
class Socket:
    """A user's side of one socket of an app."""

    to_app: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    from_app: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)

    async def heard(self) -> Message:
        async with asyncio.timeout(20):
            return await self.from_app.get()

    async def say(self, text: str) -> str:
        await self.to_app.put({"type": "websocket.receive", "text": text})
        return str((await self.heard())["text"])


@asynccontextmanager
async def _socket(app: App, path: str) -> AsyncIterator[Socket]:
    socket = Socket()
    scope: Scope = {
        "type": "websocket", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(b"host", b"app")], "subprotocols": [], "scheme": "ws",
        "client": None, "server": None, "root_path": "", "extensions": {}, "state": {},
    }  # fmt: skip

    async def run() -> None:
        await app(scope, socket.to_app.get, socket.from_app.put)

    async with asyncio.TaskGroup() as group:
        group.create_task(run())
        await socket.to_app.put({"type": "websocket.connect"})
        assert (await socket.heard())["type"] == "websocket.accept"
        yield socket
        await socket.to_app.put({"type": "websocket.disconnect", "code": 1000})


async def test_r20_a_message_sees_what_the_one_before_it_wrote_and_later_ones_are_read_near(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with (
        world(postgres_pair, numbers, "lhr") as here,
        _socket(in_region(_app(here), here, region="lhr"), "/talk") as socket,
    ):
        async with postgres_pair.replay_paused():
            assert await socket.say("write 1") == "done"
            said = json.loads(await socket.say("read"))
            assert said == {"rows": [1], "route": "primary; reason=replica-behind"}
        await postgres_pair.wait_until_replayed()
        for number in range(2, 6):
            assert await socket.say(f"write {number}") == "done"
            said = json.loads(await socket.say("read"))
            assert said["rows"] == list(range(1, number + 1))
            assert said["route"].startswith(
                ("local; reason=replica", "wait; reason=replica-behind")
            )
        await postgres_pair.wait_until_replayed()
        assert json.loads(await socket.say("read"))["route"] == "local; reason=replica"


async def test_r20_a_job_keeps_nothing_for_the_next_and_sees_what_its_asker_had_seen(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with world(postgres_pair, numbers, "lhr") as here, postgres_pair.replay_paused():
        asker = Session()
        async with here.router.work(asker, need=Need.PRIMARY) as bound:
            assert bound.route.name == "primary; reason=write"
            await insert(here.databases, 1)
            assert await values(here.databases) == [1]
        assert current_route() is None
        async with here.router.work() as bound:
            assert await values(here.databases) == []
            assert bound.route.name == "local; reason=replica"
        async with here.router.work(Session(asker.token)) as bound:
            assert await values(here.databases) == [1]
            assert bound.route.name == "primary; reason=replica-behind"
        async with here.router.work() as bound:
            assert await values(here.databases) == []
            assert bound.session.token
            assert asker.token
            assert bound.session.token.position < asker.token.position


async def test_r20_jobs_side_by_side_do_not_share_a_session(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with world(postgres_pair, numbers, "lhr", pool_size=4) as here:

        async def job(number: int) -> Session:
            async with here.router.work(need=Need.PRIMARY) as bound:
                await insert(here.databases, number)
                return bound.session

        sessions = await asyncio.gather(*map(job, range(8)))
        assert len({id(session) for session in sessions}) == 8
        assert all(session.token and session.token.wrote for session in sessions)
