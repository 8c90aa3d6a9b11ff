"""What runs as long as an app does is there before it, gone after it, and told to the server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from tests.services.asgi_life import living

from viral_engine.web.asgi import Message, Receive, Scope, Send
from viral_engine.web.lifespan import Lifespan


def _noted(happened: list[str]) -> Any:
    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        happened.append("begun")
        yield
        await asyncio.sleep(0)
        happened.append("ended")

    def enter() -> AbstractAsyncContextManager[None]:
        return running()

    return enter


async def test_it_begins_before_the_app_and_has_ended_when_the_server_is_told_so() -> None:
    happened: list[str] = []

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        happened.append("app begun")
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        happened.append("app ended")
        await send({"type": "lifespan.shutdown.complete"})

    async with living(Lifespan(app, _noted(happened))):
        assert happened == ["begun", "app begun"]
    assert happened == ["begun", "app begun", "app ended", "ended"]


async def test_an_app_that_knows_no_lifespan_gets_one() -> None:
    happened: list[str] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        assert scope["type"] == "http"

    async with living(Lifespan(app, _noted(happened))):
        assert happened == ["begun"]
    assert happened == ["begun", "ended"]


async def test_what_cannot_begin_fails_the_startup_and_names_why() -> None:
    said: list[Message] = []

    @asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        raise RuntimeError("no such thing")
        yield

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        pytest.fail("the app was started")

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        said.append(message)

    with pytest.raises(RuntimeError, match="no such thing"):
        await Lifespan(app, broken)({"type": "lifespan"}, receive, send)
    assert said == [{"type": "lifespan.startup.failed", "message": "no such thing"}]


async def test_what_fails_while_the_app_runs_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    signals: list[int] = []
    ended = asyncio.Event()

    def note(number: int) -> None:
        signals.append(number)
        ended.set()

    monkeypatch.setattr(signal, "raise_signal", note)
    fails = asyncio.Event()

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        async def watch() -> None:
            await fails.wait()
            raise RuntimeError("the watch is lost")

        async with asyncio.TaskGroup() as group:
            group.create_task(watch())
            yield

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()

    async def serve() -> None:
        async with living(Lifespan(app, running)):
            fails.set()
            async with asyncio.timeout(5):
                await ended.wait()

    with pytest.raises(ExceptionGroup):
        await serve()
    assert signals == [signal.SIGTERM]
    assert "the watch is lost" in caplog.text
