from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import timedelta
from typing import Any

__all__ = [
    "MAX_REPLAY_BODY",
    "App",
    "Message",
    "RawHeaders",
    "Receive",
    "Scope",
    "Send",
    "declared_length",
    "drain",
    "linger",
    "may_have_body",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_REPLAY_BODY = 1024 * 1024
"""Bytes of a body that a proxy keeps to send it again to another region."""

_LINGER = timedelta(seconds=10)
_LINGER_BYTES = 64 * 1024 * 1024

_OF_BODIES = frozenset({b"content-length", b"transfer-encoding"})


def declared_length(scope: Scope) -> int | None:
    """Return the body's length by its header, None where it is absent or no number."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            text = value.decode("latin-1")
            return int(text) if text.isascii() and text.isdigit() else None
    return None


def may_have_body(scope: Scope) -> bool:
    """Tell whether a request announces a body, of known length or not."""
    for name, value in scope["headers"]:  # noqa: SIM110 - each request asks; any() is slower
        if name in _OF_BODIES and value != b"0":
            return True
    return False


async def drain(scope: Scope, receive: Receive, *, limit: int = MAX_REPLAY_BODY) -> bool:
    """Read a request's body to its end and drop it; False when it is longer than ``limit`` bytes.

    A proxy can hand a request on only once it has received it whole, so an answer that asks for
    that must not come before.
    """
    if (declared_length(scope) or 0) > limit:
        await linger(scope, receive)
        return False
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return True  # the client is gone: nobody will read the answer
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
        if size > limit:
            if more:
                await linger(scope, receive)
            return False
        if not more:
            return True


async def linger(scope: Scope, receive: Receive) -> None:
    """Read and drop what comes yet of a body that is refused, for 10 s and 64 MiB at most.

    Most clients read no answer before they have sent everything, and a proxy that has the answer
    closes what it need not read any more: they would see a reset connection in its stead.
    """
    if (declared_length(scope) or 0) > _LINGER_BYTES or _asks_first(scope):
        return
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER.total_seconds()):
            while size <= _LINGER_BYTES:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                size += len(message.get("body", b""))


def _asks_first(scope: Scope) -> bool:
    """Tell whether the client sends its body only when it is told to."""
    return any(name == b"expect" for name, _ in scope["headers"])
