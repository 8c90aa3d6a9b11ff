"""A database that takes no connections is not asked by everybody who comes."""

from __future__ import annotations

import asyncio
import socket

import pytest
from psycopg_pool import PoolTimeout

from viral_engine.data.pools import LazyPool
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
