"""The API's server: ready when entered."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from viral_engine.errors import ViralError
from viral_engine.globe.api.answers import TokenRequired, refuse, refuse_http
from viral_engine.globe.api.refusals import Refusals, Refusing

GRACE = 2
"""Seconds that open streams are waited for at the end."""

KEEP_ALIVE = 75
"""Seconds that an idle connection is kept: longer than any client keeps one, so that none is closed
while a request is on its way to it (httpx gives one up after 5 s, uvicorn's own limit is 5 s too)."""


def make_app(routes: Sequence[Route], token: str) -> Starlette:
    """The API as an ASGI app that knows only callers with the token."""
    refusals = Refusals()
    return Starlette(
        routes=[*routes, *refusals.routes()],
        middleware=[
            Middleware(TokenRequired, token=token),
            Middleware(Refusing, refusals=refusals),
        ],
        exception_handlers={
            ViralError: refuse,
            ValidationError: refuse,
            ValueError: refuse,
            HTTPException: refuse_http,
        },
    )


@asynccontextmanager
async def serving(app: Starlette, listener: socket.socket) -> AsyncIterator[None]:
    """Serve ``app`` on a socket that listens already."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await task


class _Server(uvicorn.Server):
    """A server that leaves signals to its owner."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
