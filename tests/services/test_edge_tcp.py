"""A TCP service is one stable address that follows the backend whose check passes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.services.edge_world import Edge, Machine, closed, world

from viral_engine.globe.edge import Backend, Check, TcpService

PORT = 5432


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    name = writer.get_extra_info("sockname")[0].encode()
    while line := await reader.readline():
        writer.write(name + b" " + line)
        await writer.drain()


class Databases:
    """Two databases with a health endpoint each, behind one address of an edge."""

    def __init__(self, edge: Edge, machines: list[Machine]) -> None:
        self.edge = edge
        self.machines = machines

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.edge.view.private_address, PORT)

    async def who(self) -> str:
        reader, writer = await self.connect()
        writer.write(b"hello\n")
        line = await asyncio.wait_for(reader.readline(), 5)
        await closed(writer)
        return line.decode().split(" ")[0]


@pytest.fixture
async def databases() -> AsyncIterator[Databases]:
    async with world() as here:
        machines = await here.machines(iad=1, lhr=1)
        machines[1].healthy = False
        for machine in machines:
            await here.listener(machine.address, PORT, echo)
        backends = tuple(Backend(m.id, m.region, m.address, PORT) for m in machines)
        check = Check(0.1, 5.0, "/health", machines[0].port)
        service = TcpService("postgresql", PORT, backends, check)
        edge = await here.edge("lhr", [], check=None, tcp=(service,))
        await edge.wait_until_healthy(machines[:1])
        yield Databases(edge, machines)


async def test_a_connection_goes_to_the_backend_whose_check_passes(databases: Databases) -> None:
    assert {await databases.who() for _ in range(5)} == {databases.machines[0].address}


async def test_connections_end_when_their_backend_stops_being_primary(
    databases: Databases,
) -> None:
    old, new = databases.machines
    reader, writer = await databases.connect()
    writer.write(b"hello\n")
    assert (await reader.readline()).startswith(old.address.encode())
    old.healthy, new.healthy = False, True
    assert await asyncio.wait_for(reader.read(), 20) == b""
    await databases.edge.wait_until_healthy([new])
    assert await databases.who() == new.address
    await closed(writer)


async def test_without_a_primary_a_connection_is_ended_at_once(databases: Databases) -> None:
    databases.machines[0].healthy = False
    await databases.edge.wait_until_healthy([])
    reader, writer = await databases.connect()
    assert await asyncio.wait_for(reader.read(), 20) == b""
    await closed(writer)
