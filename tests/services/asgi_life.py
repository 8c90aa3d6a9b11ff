"""Runs an ASGI app's startup and shutdown around a test, as a server would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from viral_engine.web.asgi import App, Message, Receive, Scope, Send


@asynccontextmanager
async def living(app: App) -> AsyncIterator[None]:
    """Start ``app``, and shut it down at the end; a failure of either is raised."""
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()

    async def expect(kind: str) -> None:
        async with asyncio.timeout(20):
            said = await from_app.get()
        assert said["type"] == kind, said

    async with asyncio.TaskGroup() as group:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        running = group.create_task(_run(app, scope, to_app.get, from_app.put))
        await to_app.put({"type": "lifespan.startup"})
        await expect("lifespan.startup.complete")
        try:
            yield
        finally:
            await to_app.put({"type": "lifespan.shutdown"})
            await expect("lifespan.shutdown.complete")
            await running


async def _run(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)
