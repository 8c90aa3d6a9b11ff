"""The doors of a globe: ports on a loopback address through which people enter it as users.

A door listens on the machine's own loopback and, in ``wan`` mode, on the loopback of every users'
network too, so that one URL works everywhere and has each place's latencies.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

OpenSocket = Callable[[], Awaitable[socket.socket]]
Target = Callable[[], str | None]

CHUNK = 65_536
CONNECT_TIMEOUT = 15.0


@dataclass(slots=True)
class Door:
    """Carries every connection to ``target()`` port ``port`` by a socket of ``open_socket``."""

    listener: socket.socket
    open_socket: OpenSocket
    target: Target
    port: int
    _server: asyncio.Server | None = None
    _guests: set[asyncio.Task[None]] = field(default_factory=set)

    async def open(self) -> None:
        """Begin to accept connections."""
        self._server = await asyncio.start_server(self._welcome, sock=self.listener)

    async def close(self) -> None:
        """Stop accepting and end every connection."""
        if self._server is not None:
            self._server.close()
        for guest in self._guests:
            guest.cancel()
        await asyncio.gather(*self._guests, return_exceptions=True)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._guests.add(task)
        try:
            await self._carry(reader, writer)
        except (OSError, TimeoutError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._guests.discard(task)
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = self.target()
        if address is None:
            writer.transport.abort()
            return
        connection = await self.open_socket()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await asyncio.get_running_loop().sock_connect(connection, (address, self.port))
        except BaseException:
            connection.close()
            raise
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        far_reader, far_writer = await asyncio.open_connection(sock=connection)
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            far_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        if writer.can_write_eof():
            writer.write_eof()
