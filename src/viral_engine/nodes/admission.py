from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from viral_engine.nodes.load import LOAD_PATH, Load

__all__ = ["Admission", "App"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# What a proxy keeps of a body to send it to another machine.
MAX_REPLAY_BODY = 1024 * 1024
_BY_AN_EDGE = b"fly-client-ip"
_FULL = b"This machine serves as many requests as it may.\n"


class Admission:
    """Turns away what is above ``hard_limit`` concurrent requests, before the app sees it.

    The answer is 503 with ``fly-replay: elsewhere=true``, which lets the proxy pick another
    machine; a request that was sent to ``region`` by a replay stays in it, with its signed state.
    A WebSocket counts as long as it lives. ``health_path`` is always let in: a machine
    that is full is not ill. What is served is counted, and told at LOAD_PATH to whoever asks from
    inside; a request that came by an edge finds the app there, as everywhere.
    """

    def __init__(self, app: App, *, hard_limit: int, region: str, health_path: str) -> None:
        self._app = app
        self._hard_limit = hard_limit
        self._region = region
        self._health_path = health_path
        self.load = Load()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope, or turn it away."""
        if scope["type"] not in {"http", "websocket"} or scope["path"] == self._health_path:
            await self._app(scope, receive, send)
            return
        if scope["path"] == LOAD_PATH and _is_local(scope):
            await _tell(self.load, send)
            return
        if self.load.inside >= self._hard_limit:
            self.load.turned_away += 1
            await _turn_away(scope, receive, send, self._region)
            return
        edge = self.load.enter(scope["headers"])
        try:
            await self._app(scope, receive, send)
        finally:
            self.load.leave(edge)


def _is_local(scope: Scope) -> bool:
    return scope["type"] == "http" and all(name != _BY_AN_EDGE for name, _ in scope["headers"])


async def _tell(load: Load, send: Send) -> None:
    body = json.dumps(load.shown()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _turn_away(scope: Scope, receive: Receive, send: Send, region: str) -> None:
    kind = scope["type"]
    if kind == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1013})
            return
        kind = "websocket.http"
    else:
        await _drain(receive)
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(_FULL)),
        (b"retry-after", b"1"),
        (b"fly-replay", _replay(scope, region)),
    ]
    await send({"type": f"{kind}.response.start", "status": 503, "headers": headers})
    await send({"type": f"{kind}.response.body", "body": _FULL})


def _replay(scope: Scope, region: str) -> bytes:
    source = b"".join(value for name, value in scope["headers"] if name == b"fly-replay-src")
    state = source.partition(b"state=")[2]
    if not state:
        return b"elsewhere=true"
    # Only a replay on purpose has a state; one that a full machine moved on has none.
    return b"region=%s;elsewhere=true;state=%s" % (region.encode(), state)


async def _drain(receive: Receive) -> None:
    # A proxy can send a request elsewhere only once it has received it whole.
    size = 0
    more = True
    while more and size <= MAX_REPLAY_BODY:
        message = await receive()
        size += len(message.get("body", b""))
        more = message["type"] == "http.request" and message.get("more_body", False)
