from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from viral_engine.data.decide import Route

__all__ = ["RequestRoute", "current_route", "routed"]


class RequestRoute:
    """The route of one request: decided once, and replaced only when a fallback really happened.

    The answer's ``viral-route`` is written from it at the last moment, so it tells what was done.
    """

    def __init__(self, route: Route) -> None:
        self.route = route


_CURRENT: ContextVar[RequestRoute | None] = ContextVar("viral_request_route", default=None)


def current_route() -> RequestRoute | None:
    """Return the route of the request that runs now, None outside of one."""
    return _CURRENT.get()


@contextmanager
def routed(route: Route) -> Iterator[RequestRoute]:
    """Bind ``route`` to what runs inside, tasks started there included; scopes nest."""
    bound = RequestRoute(route)
    token = _CURRENT.set(bound)
    try:
        yield bound
    finally:
        _CURRENT.reset(token)
