"""All of these apps in one process, each below its own name, so that one globe measures them all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import remote_sql
import replay_without_tokens
import single_region
import through_runtime
import time_pin
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

APPS: Mapping[str, ASGIApp] = {
    "through_runtime": through_runtime.app,
    "single_region": single_region.app,
    "remote_sql": remote_sql.app,
    "time_pin": time_pin.app,
    "replay_without_tokens": replay_without_tokens.app,
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Hand a request to the app that its path begins with; the platform's check gets 200."""
    if scope["type"] == "lifespan":
        await _live(scope, receive, send)
        return
    _, name, rest = [*scope["path"].split("/", 2), "", ""][:3]
    chosen = APPS.get(name)
    if chosen is None:
        await JSONResponse({"apps": list(APPS)})(scope, receive, send)
        return
    path = f"/{rest}"
    await chosen({**scope, "path": path, "raw_path": path.encode()}, receive, send)


class _Life:
    """The start and the end of one app."""

    def __init__(self, app: ASGIApp, scope: Scope) -> None:
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._outbox: asyncio.Queue[Message] = asyncio.Queue()
        self._task = asyncio.create_task(
            self._run(app, {**scope, "state": {}})  # what an app keeps there is its own
        )

    async def _run(self, app: ASGIApp, scope: Scope) -> None:
        await app(scope, self._inbox.get, self._outbox.put)

    async def tell(self, kind: str) -> str:
        """Say that the server starts or ends, and return what the app says to that."""
        await self._inbox.put({"type": kind})
        answer = await self._outbox.get()
        return str(answer["type"])


async def _live(scope: Scope, receive: Receive, send: Send) -> None:
    lives = [_Life(one, scope) for one in APPS.values()]
    for _ in ("startup", "shutdown"):
        kind = (await receive())["type"]
        said = [await life.tell(kind) for life in lives]
        bad = next((one for one in said if one.endswith("failed")), None)
        await send({"type": bad or f"{kind}.complete"})
