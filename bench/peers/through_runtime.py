"""The same app through Viral Engine: writes at the primary, reads near, by session token."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from items import SELECT, Item, NewItem, Row, create_tables, insert
from psycopg.rows import class_row

from viral_engine.web.runtime import Runtime

runtime = Runtime.from_environ(os.environ)
databases = runtime.databases


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    creating = asyncio.create_task(create_tables())
    yield
    creating.cancel()


service = FastAPI(title="Through the runtime", lifespan=lifespan)


@service.get("/")
async def hello() -> dict[str, str]:
    return {"app": "through_runtime", "try": "/items"}


@service.post("/items", status_code=201)
async def add_item(new: NewItem) -> Item:
    async with databases.writing() as connection:
        row = await insert(connection, new)
    return Item(row.id, row.title)


@service.get("/items/{item_id}")
async def get_item(item_id: int) -> Item:
    found = await databases.select(SELECT, {"id": item_id}, row_factory=class_row(Row))
    if not found:
        raise HTTPException(404)
    return Item(found[0].id, found[0].title)


app = runtime.wrap(service)
