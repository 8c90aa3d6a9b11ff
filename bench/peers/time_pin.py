"""Reads are local, unless the client wrote within 5 s: then its reads go to the primary too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Cookie, FastAPI, HTTPException, Response
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

PIN_S = 5
COOKIE = "written-at"

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


app = FastAPI(title="Time pin", lifespan=lifespan)


def replay() -> Response:
    return Response(status_code=409, headers={"fly-replay": f"region={PRIMARY_REGION}"})


@app.get("/")
async def hello() -> dict[str, str]:
    return {"app": "time_pin", "try": "/items"}


@app.post("/items", status_code=201, response_model=Item)
async def add_item(new: NewItem, response: Response) -> Item | Response:
    if REGION != PRIMARY_REGION:
        return replay()
    row = await store(primary, new)
    response.set_cookie(COOKIE, f"{time.time():.3f}", max_age=PIN_S)
    return Item(row.id, row.title)


@app.get("/items/{item_id}", response_model=Item)
async def get_item(
    item_id: int, written_at: Annotated[float, Cookie(alias=COOKIE)] = 0.0
) -> Item | Response:
    if REGION == PRIMARY_REGION:
        row = await find(primary, item_id)
    elif time.time() - written_at < PIN_S:
        return replay()
    else:
        row = await find(local, item_id)
    if row is None:
        raise HTTPException(404)
    return Item(row.id, row.title)
