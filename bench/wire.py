"""HTTP/1.1 over one kept connection, at a few tens of microseconds a request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self, cast

import httptools

ANSWERS_WITHIN_S = 30.0


class WireError(Exception):
    """The connection broke, or no answer came in time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; names of headers are in lower case, and the last of a name wins."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes


def request(
    method: str,
    target: str,
    *,
    host: str,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
) -> bytes:
    """Return the bytes of one request; a body is JSON."""
    lines = [f"{method} {target} HTTP/1.1", f"host: {host}"]
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Wire(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        """Connect; raises WireError where nobody listens."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                _, wire = await loop.create_connection(cls, host, port)
        except OSError as error:
            raise WireError(str(error)) from error
        return wire

    async def ask(self, request: bytes, *, within_s: float = ANSWERS_WITHIN_S) -> Answer:
        """Send a request and return its answer; raises WireError where there is none in time.

        After an error the connection is closed.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise WireError("the connection is closed")
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        late = loop.call_later(within_s, self._give_up, f"no answer in {within_s:g} s")
        transport.write(request)
        try:
            return await self._waiting
        finally:
            late.cancel()

    @property
    def is_open(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Close it; whoever waits gets WireError."""
        self._give_up("closed")

    def _give_up(self, why: str) -> None:
        if self._transport is not None:
            self._transport.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(WireError(why))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._give_up(str(exc) if exc else "the server closed the connection")

    def data_received(self, data: bytes) -> None:
        """Hand what came to the parser."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._give_up(f"not HTTP: {error}")

    def on_message_begin(self) -> None:
        """Begin a new answer (for the parser)."""
        self._headers, self._body = {}, []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header (for the parser)."""
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        """Take a part of the body (for the parser)."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Answer whoever waits (for the parser)."""
        answer = Answer(self._parser.get_status_code(), self._headers, b"".join(self._body))
        if not self._parser.should_keep_alive() and self._transport is not None:
            self._transport.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)
