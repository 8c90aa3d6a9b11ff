"""Writes are replayed in the primary's region, reads are always local, and nobody remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Response
from items import (
    LOCAL_URL,
    PRIMARY_REGION,
    PRIMARY_URL,
    REGION,
    Item,
    NewItem,
    create_tables,
    find,
    pool_to,
    store,
)

primary, local = pool_to(PRIMARY_URL), pool_to(LOCAL_URL)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    creating = asyncio.create_task(create_tables())
    await primary.open()
    await local.open()
    yield
    creating.cancel()
    await local.close()
    await primary.close()


app = FastAPI(title="Replay without tokens", lifespan=lifespan)


@app.get("/")
async def hello() -> dict[str, str]:
    return {"app": "replay_without_tokens", "try": "/items"}


@app.post("/items", status_code=201, response_model=Item)
async def add_item(new: NewItem) -> Item | Response:
    if REGION != PRIMARY_REGION:
        return Response(status_code=409, headers={"fly-replay": f"region={PRIMARY_REGION}"})
    row = await store(primary, new)
    return Item(row.id, row.title)


@app.get("/items/{item_id}")
async def get_item(item_id: int) -> Item:
    row = await find(local, item_id)
    if row is None:
        raise HTTPException(404)
    return Item(row.id, row.title)
