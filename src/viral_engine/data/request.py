from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from viral_engine.data.decide import Route
from viral_engine.data.session import Session

__all__ = ["RequestRoute", "current_route", "routed"]


class RequestRoute:
    """The route of one request: decided once, and replaced only when a fallback really happened.

    The answer's ``viral-route`` is written from it at the last moment, so it tells what was done;
    its ``viral-session`` from ``session``, which every read and write of the request advances.
    """

    def __init__(self, route: Route, session: Session) -> None:
        self.route = route
        self.session = session


_CURRENT: ContextVar[RequestRoute | None] = ContextVar("viral_request_route", default=None)


def current_route() -> RequestRoute | None:
    """Return the route of the request that runs now, None outside of one."""
    return _CURRENT.get()


@contextmanager
def routed(route: Route, session: Session | None = None) -> Iterator[RequestRoute]:
    """Bind ``route`` to what runs inside, tasks started there included; scopes nest.

    Without a ``session`` what runs inside begins as a client that has seen nothing.
    """
    bound = RequestRoute(route, session or Session())
    token = _CURRENT.set(bound)
    try:
        yield bound
    finally:
        _CURRENT.reset(token)
