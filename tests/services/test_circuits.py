"""A database that takes no connections is not asked by everybody who comes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import pytest
from psycopg_pool import PoolTimeout
from tests.services.postgres_pair import PostgresPair

from viral_engine.clock import NotYet, wait_until
from viral_engine.data.pools import LazyPool
from viral_engine.guards import CircuitOpenError
from viral_engine.observe import CircuitClosed, CircuitOpened, Event


@dataclass
class Door:
    """An address of a database; shut, it takes a connection and closes it, and counts that."""

    host: str
    port: int
    is_shut: bool = True
    turned_away: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_shut:
            self.turned_away += 1
            writer.close()
            return
        to_reader, to_writer = await asyncio.open_connection(self.host, self.port)
        with suppress(ConnectionError):
            async with asyncio.TaskGroup() as group:
                group.create_task(_carry(reader, to_writer))
                group.create_task(_carry(to_reader, writer))


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
    sink.close()


async def test_what_takes_no_connection_is_left_alone_for_a_moment_and_found_again(
    postgres_pair: PostgresPair,
) -> None:
    told: list[Event] = []
    door = Door(postgres_pair.primary.address, postgres_pair.primary.port)
    server = await asyncio.start_server(door.serve, postgres_pair.primary.address, 0)
    url = f"postgresql://postgres@{door.host}:{server.sockets[0].getsockname()[1]}/postgres"
    pool = LazyPool(
        url, name="t", read_only=False, size=5, circuit="write lhr", listener=told.append
    )
    async with server, pool:
        many = await asyncio.gather(*(pool.borrow() for _ in range(3)), return_exceptions=True)
        assert all(isinstance(one, PoolTimeout) for one in many)
        assert told == [CircuitOpened("write lhr")]
        asked = door.turned_away
        with pytest.raises(PoolTimeout) as refused:
            await pool.borrow()
        assert isinstance(refused.value.__cause__, CircuitOpenError)
        assert door.turned_away <= asked + 1  # the pool's own next attempt may fall in between
        door.is_shut = False

        async def is_lent() -> bool | NotYet:
            try:
                await pool.give_back(await pool.borrow())
            except PoolTimeout as error:
                return NotYet(str(error))
            return True

        await wait_until(
            is_lent, timeout=timedelta(seconds=10), waiting_for="a connection to be lent again"
        )
        assert told[1:] == [CircuitClosed("write lhr")]
