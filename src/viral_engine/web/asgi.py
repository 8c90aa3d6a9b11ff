from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
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
        return False
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return True  # the client is gone: nobody will read the answer
        size += len(message.get("body", b""))
        if size > limit:
            return False
        if not message.get("more_body", False):
            return True
