"""The same read-only handler twice: on a bare pool of psycopg, and through the runtime.

Run by bench/handler.py as a process of its own: it prints its port once it listens.
"""

from __future__ import annotations

import gc
import json
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool
from starlette.requests import Request

# Run by its path, so that only its own folder is importable.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from viral_engine.errors import DatabaseError
from viral_engine.web.asgi import App
from viral_engine.web.runtime import Runtime

QUERY = b"select id, title, version from items where id = %(id)s"
POOL_SIZE = 10


@dataclass(frozen=True, slots=True)
class Item:
    """One row."""

    id: int
    title: str
    version: int


Read = Callable[[int], Awaitable[Item | None]]
Lifespan = Callable[[FastAPI], Any]


def handler(read: Read, lifespan: Lifespan | None) -> FastAPI:
    """Return the app that both arms are, but for how they read."""
    app = FastAPI(lifespan=lifespan)

    @app.get("/items/{item_id}")
    async def get_item(item_id: int) -> Item:
        item = await read(item_id)
        if item is None:
            raise HTTPException(404)
        return item

    @app.exception_handler(DatabaseError)
    async def database_is_away(_request: Request, error: DatabaseError) -> JSONResponse:
        return JSONResponse({"detail": error.message}, status_code=503)

    return app


def bare(replica: str) -> App:
    """Return the handler as one writes it on psycopg alone, prepared and without a transaction."""
    pool: AsyncConnectionPool[psycopg.AsyncConnection[tuple[Any, ...]]] = AsyncConnectionPool(
        replica, kwargs={"autocommit": True}, min_size=POOL_SIZE, max_size=POOL_SIZE, open=False
    )

    async def read(item_id: int) -> Item | None:
        async with pool.connection() as connection:
            cursor = connection.cursor(row_factory=class_row(Item))
            await cursor.execute(QUERY, {"id": item_id})
            return await cursor.fetchone()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with pool:
            yield

    return handler(read, lifespan)


def runtime(primary: str, replica: str, regions: int) -> App:
    """Return the handler in ``lhr``, read from its replica through the runtime.

    Regions beyond two are more nodes to watch and to choose from; one replica answers for all.
    """
    more = {f"READ_REPLICA_{code}_URL": replica for code in ("NRT", "GRU", "SYD")[: regions - 2]}
    viral = Runtime.from_environ(
        {
            "FLY_REGION": "lhr",
            "PRIMARY_REGION": "iad",
            "FLY_MACHINE_ID": "bench",
            "DATABASE_URL": primary,
            "READ_REPLICA_IAD_URL": primary,
            "READ_REPLICA_LHR_URL": replica,
            "VIRAL_SECRET": "secret",
            **more,
        }
    )

    async def read(item_id: int) -> Item | None:
        found = await viral.databases.select(QUERY, {"id": item_id}, row_factory=class_row(Item))
        return found[0] if found else None

    return viral.wrap(handler(read, None))


def serve(app: App) -> None:
    """Serve as an app machine does, on a free port that is printed, until told to stop."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)  # whoever comes before the app has started waits for it
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", interface="asgi3", access_log=False,
        proxy_headers=False, server_header=False, log_level="warning",
    )  # fmt: skip
    gc.freeze()  # as an app machine does
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    arm, primary_url, replica_url, count = sys.argv[1:]
    serve(bare(replica_url) if arm == "bare" else runtime(primary_url, replica_url, int(count)))
