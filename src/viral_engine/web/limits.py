from __future__ import annotations

from viral_engine.web.asgi import (
    App,
    Message,
    Receive,
    Scope,
    Send,
    declared_length,
    linger,
    may_have_body,
)
from viral_engine.web.problem import Problem, send_problem

__all__ = ["BodyLimit"]


class _BodyTooLargeError(Exception):
    pass


class BodyLimit:
    """Refuses a request body of more than ``limit`` bytes with 413, declared or counted.

    A body without a declared length is counted as the app reads it; nothing is kept. What comes
    yet of a refused one is read first, within bounds (``linger``), so that its sender hears of it.
    """

    def __init__(self, app: App, *, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope."""
        if scope["type"] != "http" or _has_none(scope):
            await self._app(scope, receive, send)
            return
        if (declared_length(scope) or 0) > self._limit:
            await linger(scope, receive)
            await self._refuse(scope, send)
            return
        size = 0
        started = False
        more = True

        async def counted() -> Message:
            nonlocal size, more
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
            if size > self._limit:
                raise _BodyTooLargeError
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, counted, watched)
        except _BodyTooLargeError:
            if started:
                raise
            if more:
                await linger(scope, receive)
            await self._refuse(scope, send)

    async def _refuse(self, scope: Scope, send: Send) -> None:
        detail = f"The body is longer than {self._limit} bytes."
        await send_problem(scope, send, Problem(413, "body-too-large", detail, ()))


def _has_none(scope: Scope) -> bool:
    # Most requests: nothing to count, so nothing to wrap.
    return scope["method"] in {"GET", "HEAD"} and not may_have_body(scope)
