from __future__ import annotations

from contextvars import ContextVar, Token
from enum import StrEnum

from viral_engine.data.decide import Route
from viral_engine.data.session import Session
from viral_engine.data.writes import OpenTransaction
from viral_engine.topology.model import Consistency

__all__ = ["Detour", "RequestRoute", "current_route", "routed", "routed_as"]


class Detour(StrEnum):
    """Why a request should be served once more, where the primary is."""

    WRITE_IN_READ = "write-in-read"
    CONFLICT = "recovery-conflict"


class RequestRoute:
    """The route of one request: decided once, and replaced only when a fallback really happened.

    The answer's ``viral-route`` is written from it at the last moment, so it tells what was done;
    its ``viral-session`` from ``session``, which every read and write of the request advances.

    ``detour`` is set by a read that the database refused for a reason that another node does not
    have. ``writes_anyway`` tells that this is the second time: what was declared to read may write.
    ``transaction`` is the one that the whole request runs in, where it has one.
    """

    def __init__(
        self,
        route: Route,
        session: Session,
        *,
        consistency: Consistency = Consistency.EVENTUAL,
        writes_anyway: bool = False,
    ) -> None:
        self.route = route
        self.session = session
        self.consistency = consistency
        self.writes_anyway = writes_anyway
        self.detour: Detour | None = None
        self.transaction: OpenTransaction | None = None
        self.in_one_region = False


_CURRENT: ContextVar[RequestRoute | None] = ContextVar("viral_request_route", default=None)


def current_route() -> RequestRoute | None:
    """Return the route of the request that runs now, None outside of one."""
    return _CURRENT.get()


class routed_as:  # noqa: N801 - read as the verb that it is, in a with statement
    """Bind a route to what runs inside, tasks started there included; scopes nest."""

    # Not a generator: every request enters one.
    __slots__ = ("_bound", "_token")

    def __init__(self, bound: RequestRoute) -> None:
        self._bound = bound
        self._token: Token[RequestRoute | None]

    def __enter__(self) -> RequestRoute:
        self._token = _CURRENT.set(self._bound)
        return self._bound

    def __exit__(self, *_error: object) -> None:
        _CURRENT.reset(self._token)


def routed(
    route: Route,
    session: Session | None = None,
    *,
    consistency: Consistency = Consistency.EVENTUAL,
    writes_anyway: bool = False,
) -> routed_as:
    """Bind ``route`` to what runs inside.

    Without a ``session`` what runs inside begins as a client that has seen nothing.
    """
    return routed_as(
        RequestRoute(
            route, session or Session(), consistency=consistency, writes_anyway=writes_anyway
        )
    )
