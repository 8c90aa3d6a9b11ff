from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from enum import StrEnum

from viral_engine.data.decide import Need, Route
from viral_engine.data.session import Session
from viral_engine.data.writes import OpenTransaction
from viral_engine.errors import DatabaseError, UnknownOutcomeError
from viral_engine.topology.model import Consistency

__all__ = ["Detour", "RequestRoute", "current_route", "noting_faults", "routed", "routed_as"]


Teller = Callable[[], Awaitable[None]]


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
    ``transaction`` is the one that the whole request runs in, where it has one. Where ``need`` is not
    PRIMARY, its transactions are read-only. ``is_answered`` tells that its answer has begun, so that
    nothing can be said of what it reads from now on. ``fault`` is the last failure of a database in
    it; ``is_unsure`` tells that one of its commits may or may not have happened.
    """

    def __init__(
        self,
        route: Route,
        session: Session,
        *,
        need: Need = Need.NEAR,
        consistency: Consistency = Consistency.EVENTUAL,
        writes_anyway: bool = False,
    ) -> None:
        self.need = need
        self.route = route
        self.session = session
        self.consistency = consistency
        self.writes_anyway = writes_anyway
        self.detour: Detour | None = None
        self.fault: DatabaseError | None = None
        self.is_unsure = False
        self.transaction: OpenTransaction | None = None
        self.in_one_region = False
        self.is_answered = False
        self._tellers: list[Teller] = []
        self._faults: list[DatabaseError] = []

    @contextmanager
    def reading(self, teller: Teller) -> Iterator[None]:
        """Have ``teller`` count in what was read until then, should the answer begin in the block."""
        self._tellers.append(teller)
        try:
            yield
        finally:
            if teller in self._tellers:
                self._tellers.remove(teller)

    def note_fault(self, fault: DatabaseError) -> None:
        """Note that a database failed this request; the outcome of a commit may now be unknown."""
        self.fault = fault
        self.is_unsure = self.is_unsure or isinstance(fault, UnknownOutcomeError)

    def begin_again(self, route: Route) -> None:
        """Begin anew by ``route``, as if nothing had failed; what was seen stays seen."""
        self.route, self.fault, self.detour = route, None, None
        self.transaction, self.is_answered = None, False
        self.is_unsure = False
        self.forget_untold()

    def must_not_answer(self, fault: DatabaseError) -> None:
        """Note that something was read that must not be used, where raising it would be too late."""
        self._faults.append(fault)

    @property
    def has_to_tell(self) -> bool:
        """Whether something was read that is not counted in yet, or must not be used."""
        return bool(self._tellers or self._faults)

    def forget_untold(self) -> None:
        """Take what was said of it for enough: the answer is another one now."""
        self._tellers, self._faults = [], []

    async def tell(self) -> None:
        """Count in what open transactions have read; raise DatabaseError where none of it counts."""
        for teller in tuple(self._tellers):
            await teller()
        if self._faults:
            raise self._faults[0]


@contextmanager
def noting_faults() -> Iterator[None]:
    """Note in the request's route what DatabaseError leaves the block."""
    try:
        yield
    except DatabaseError as fault:
        bound = current_route()
        if bound is not None:
            bound.note_fault(fault)
        raise


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
    need: Need = Need.NEAR,
    consistency: Consistency = Consistency.EVENTUAL,
    writes_anyway: bool = False,
) -> routed_as:
    """Bind ``route`` to what runs inside.

    Without a ``session`` what runs inside begins as a client that has seen nothing.
    """
    return routed_as(
        RequestRoute(
            route,
            session or Session(),
            need=need,
            consistency=consistency,
            writes_anyway=writes_anyway,
        )
    )
