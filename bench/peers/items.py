"""What all of these apps share: the table, its SQL and the shapes that cross the wire."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, Field

log = logging.getLogger("items")

REGION = os.environ.get("FLY_REGION") or "iad"
PRIMARY_REGION = os.environ.get("PRIMARY_REGION") or "iad"
PRIMARY_URL = os.environ.get("DATABASE_URL") or "postgresql://localhost/postgres"
LOCAL_URL = os.environ.get(f"READ_REPLICA_{REGION.upper()}_URL") or PRIMARY_URL

CREATE = b"""
create table if not exists items (
    id bigint generated always as identity primary key,
    title text not null
);
create table if not exists item_changes (
    item bigint not null,
    at timestamptz not null default now()
);
"""
INSERT = b"insert into items (title) values (%(title)s) returning id, title"
NOTE = b"insert into item_changes (item) values (%(id)s)"
SELECT = b"select id, title from items where id = %(id)s"

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Pool = AsyncConnectionPool[Connection]


class NewItem(BaseModel):
    """What a client sends."""

    title: str = Field(min_length=1, max_length=200)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table."""

    id: int
    title: str


@dataclass(frozen=True, slots=True)
class Item:
    """What an answer says: the row, and the region whose app made the answer."""

    id: int
    title: str
    region: str = REGION


def pool_to(url: str) -> Pool:
    """Return a pool that opens with its app."""
    return AsyncConnectionPool(
        url, kwargs={"autocommit": True}, min_size=1, max_size=10, open=False
    )


async def create_tables() -> None:
    """Create the tables, waiting for as long as the database takes to be there."""
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(PRIMARY_URL) as connection:
                await connection.execute(CREATE)
        except psycopg.Error as error:
            # Not there yet, or another machine is creating the same table right now.
            log.warning("the database is not ready: %s", error)
            await asyncio.sleep(1)
        else:
            return


async def insert(connection: Connection, new: NewItem) -> Row:
    """Store an item and a note about it, in the transaction that is open."""
    cursor = connection.cursor(row_factory=class_row(Row))
    await cursor.execute(INSERT, {"title": new.title})
    row = await cursor.fetchone()
    assert row is not None
    await connection.execute(NOTE, {"id": row.id})
    return row


async def find(pool: Pool, item_id: int) -> Row | None:
    """Return the item, None where it is not (yet)."""
    async with pool.connection() as connection:
        cursor = connection.cursor(row_factory=class_row(Row))
        await cursor.execute(SELECT, {"id": item_id})
        return await cursor.fetchone()


async def store(pool: Pool, new: NewItem) -> Row:
    """Store an item in a transaction of its own."""
    async with pool.connection() as connection, connection.transaction():
        return await insert(connection, new)
