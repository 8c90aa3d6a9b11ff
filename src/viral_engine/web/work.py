from __future__ import annotations

from collections.abc import Callable

from viral_engine.data import Need, current_route
from viral_engine.data.blocks import Work, working
from viral_engine.errors import DatabaseError, ReplicaUnavailableError
from viral_engine.web.asgi import App, Message, Receive, Scope, Send
from viral_engine.web.problem import database_problem, send_problem
from viral_engine.web.visit import need_of_method

__all__ = ["WorkScope"]

_STARTS = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})


class WorkScope:
    """Tells transactions what their request needs, and counts in what they read before it is answered.

    Frameworks end a session only when its answer is on the way, and then its token is too. What
    was read and turns out not to count is answered 503 instead, so nobody sees it.
    """

    def __init__(self, app: App, *, need: Callable[[Scope], Need] = need_of_method) -> None:
        self._app = app
        self._need = need

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        with working(self._need(scope)) as work:
            try:
                await self._app(scope, receive, _told_first(scope, work, send))
            except DatabaseError:
                raise
            except Exception as error:
                bound = current_route()
                if bound and bound.detour:
                    # Whatever the app made of it, it began with what the database refused.
                    raise ReplicaUnavailableError(str(error)) from error
                raise


def _told_first(scope: Scope, work: Work, send: Send) -> Send:
    refused = False

    async def told(message: Message) -> None:
        nonlocal refused
        if refused:
            return
        if message["type"] in _STARTS:
            try:
                await work.tell()
            except DatabaseError as error:
                refused = True
                await send_problem(scope, send, database_problem(error))
                return
            work.is_answered = scope["type"] == "http"
        await send(message)

    return told
