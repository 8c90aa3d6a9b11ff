"""One app in every region, and all of its SQL sent to the primary, however far that is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from items import PRIMARY_URL, Item, NewItem, create_tables, find, pool_to, store

primary = pool_to(PRIMARY_URL)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    creating = asyncio.create_task(create_tables())
    await primary.open()
    yield
    creating.cancel()
    await primary.close()


app = FastAPI(title="All SQL to the primary", lifespan=lifespan)


@app.get("/")
async def hello() -> dict[str, str]:
    return {"app": "remote_sql", "try": "/items"}


@app.post("/items", status_code=201)
async def add_item(new: NewItem) -> Item:
    row = await store(primary, new)
    return Item(row.id, row.title)


@app.get("/items/{item_id}")
async def get_item(item_id: int) -> Item:
    row = await find(primary, item_id)
    if row is None:
        raise HTTPException(404)
    return Item(row.id, row.title)
