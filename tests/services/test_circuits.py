"""A database that takes no connections is not asked by everybody who comes."""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta

import pytest
from psycopg_pool import PoolTimeout
from tests.services.postgres_pair import PostgresPair

from viral_engine.clock import wait_until
from viral_engine.data.pools import LazyPool, is_live
from viral_engine.guards import CircuitOpenError
from viral_engine.observe import CircuitOpened, Event


async def test_what_takes_no_connection_is_left_alone_for_a_moment() -> None:
    told: list[Event] = []
    # Bound and not listening: whoever connects is refused, and nobody else gets the port.
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"postgresql://nobody@127.0.0.1:{held.getsockname()[1]}/nothing"
        async with LazyPool(
            url, name="t", read_only=False, size=5, circuit="write lhr", listener=told.append
        ) as pool:
            many = await asyncio.gather(*(pool.borrow() for _ in range(3)), return_exceptions=True)
            assert all(isinstance(one, PoolTimeout) for one in many)
            assert told == [CircuitOpened("write lhr")]
            with pytest.raises(PoolTimeout) as refused:
                await pool.borrow()
            assert isinstance(refused.value.__cause__, CircuitOpenError)


async def test_a_connection_whose_server_has_said_something_unasked_is_not_lent_again(
    postgres_pair: PostgresPair,
) -> None:
    url = postgres_pair.primary.url()
    async with LazyPool(url, name="t", read_only=False, size=1, circuit="write iad") as pool:
        async with pool.connection() as first:
            await first.execute(b"listen farewell")
        await postgres_pair.primary.ask("notify farewell")
        await wait_until(
            lambda: not is_live(first), timeout=timedelta(seconds=10), waiting_for="what it says"
        )
        for _ in range(3):
            async with pool.connection() as second:
                assert second is not first
                await second.execute(b"select 1")
        assert first.closed
