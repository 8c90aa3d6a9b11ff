from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from viral_engine.web.asgi import App, Message, Receive, Scope, Send

__all__ = ["Lifespan"]

_log = logging.getLogger("viral_engine")

Running = Callable[[], AbstractAsyncContextManager[object]]


class Lifespan:
    """Runs something as long as a server runs an app: begun before the app, ended after it.

    An app without a lifespan of its own gets one that does only that. What ends before the server
    asks for it has failed: that is logged, and the process ends by SIGTERM.
    """

    def __init__(self, app: App, running: Running) -> None:
        self._app = app
        self._running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        held = _Held(self._running)
        try:
            await held.begin()
        except Exception as error:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        try:
            await self._serve(scope, receive, send, held)
        finally:
            await held.end()

    async def _serve(self, scope: Scope, receive: Receive, send: Send, held: _Held) -> None:
        touched = False

        async def received() -> Message:
            nonlocal touched
            touched = True
            return await receive()

        async def said(message: Message) -> None:
            nonlocal touched
            touched = True
            if message["type"].startswith("lifespan.shutdown"):
                # A server takes this for the end, and what still runs then is cut off.
                await held.end()
            await send(message)

        try:
            await self._app(scope, received, said)
        except Exception:
            if touched:
                raise
            # As servers do: an app that refuses the very scope has no lifespan.
            await _bare(receive, send, held)


class _Held:
    """One block that is entered and left by a task of its own, whoever asks for that."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._is_over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        ready = asyncio.Event()
        self._task = asyncio.create_task(self._hold(ready), name="runtime")
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._task.done():
            await self._task
        self._task.add_done_callback(self._end_of)

    async def end(self) -> None:
        self._is_over.set()
        if self._task is not None:
            await self._task

    def _end_of(self, task: asyncio.Task[None]) -> None:
        """End the process with what it cannot serve without, as a signal does, to be started again."""
        if self._is_over.is_set() or task.cancelled():
            return
        _log.critical("what the app runs on has failed, and so it ends", exc_info=task.exception())
        signal.raise_signal(signal.SIGTERM)

    async def _hold(self, ready: asyncio.Event) -> None:
        async with self._running():
            ready.set()
            await self._is_over.wait()


async def _bare(receive: Receive, send: Send, held: _Held) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await held.end()
    await send({"type": "lifespan.shutdown.complete"})
