from __future__ import annotations

from datetime import timedelta

from viral_engine.clock import SYSTEM_CLOCK, Clock, Deadline
from viral_engine.cluster import ClusterView
from viral_engine.data import MOVED, Need, RequestRoute, Route, RouteKind, Router
from viral_engine.errors import (
    BusyError,
    DatabaseError,
    NoPrimaryError,
    ReplicaUnavailableError,
    UnknownOutcomeError,
)
from viral_engine.web.asgi import MAX_REPLAY_BODY, Message, Receive
from viral_engine.web.visit import Visit

__all__ = ["Again", "KeptBody", "may_repeat"]

# A node that is asked and silent is known to be so after 2 s; one that answers, far sooner.
FOUND_LOST_WITHIN = timedelta(seconds=2.5)


def may_repeat(visit: Visit, bound: RequestRoute) -> bool:
    """Tell whether a request that a database failed may be served once more from its beginning.

    Only while none of its answer was sent and nothing that it did is there, or may be: but with an
    idempotency key what is repeated is done once all the same.
    """
    fault = bound.fault
    if fault is None or not visit.is_http or visit.has_begun or visit.is_last:
        return False
    if bound.is_unsure or isinstance(fault, UnknownOutcomeError):
        return visit.incoming.idempotency_key is not None and visit.need is Need.PRIMARY
    if bound.session.wrote and visit.incoming.idempotency_key is None:
        return False
    return isinstance(fault, (NoPrimaryError, ReplicaUnavailableError, BusyError))


class Again:
    """Finds where a request that a database failed can be served once more, within ``hold``.

    It waits for news from after the failure: where the primary moved, or that a node answers again.
    Where every connection is in use and the primary stays where it is, waiting would only add to
    the queue, so nobody waits for that; but whom a failover has delayed already waits on: all that
    were held come at once, which is over soon, and it is they who would pay for it.
    """

    def __init__(self, router: Router, *, hold: timedelta, clock: Clock = SYSTEM_CLOCK) -> None:
        self._router = router
        self._hold = hold
        self._clock = clock

    def deadline(self) -> Deadline:
        """Return until when a request that failed now is held."""
        return Deadline.after(self._hold, self._clock)

    async def route(
        self, visit: Visit, bound: RequestRoute, fault: DatabaseError, deadline: Deadline
    ) -> Route | None:
        """Return the route for another attempt, None where there is none in time."""
        failed_at = self._clock.monotonic()
        if isinstance(fault, BusyError) and not await self._can_end(visit, bound, deadline):
            return None
        route = await self._router.route_again(
            visit.need, bound.session, since=failed_at, deadline=deadline,
            movable=not visit.is_at_its_end and not bound.session.wrote,
        )  # fmt: skip
        return None if route.kind is RouteKind.DEGRADED else route

    async def _can_end(self, visit: Visit, bound: RequestRoute, deadline: Deadline) -> bool:
        """Tell whether a failover is why every connection is in use."""
        asked = bound.route
        if visit.attempts > 1 or asked.reason == MOVED:
            return True

        def has_left(view: ClusterView) -> bool:
            if visit.need is not Need.NEAR:
                return view.writable_region != asked.region
            node = view.node(asked.region or "")
            return node is None or not node.reachable

        return has_left(
            await self._router.cluster.wait_for(
                has_left, timeout=min(FOUND_LOST_WITHIN, deadline.remaining())
            )
        )


class KeptBody:
    """A request's body, kept as it is read, so that it can be read again; at most 1 MiB."""

    def __init__(self, receive: Receive, *, limit: int = MAX_REPLAY_BODY) -> None:
        self._receive = receive
        self._limit = limit
        self._size = 0
        self._read: list[Message] = []
        self.is_whole = True
        """Whether nothing of it had to be dropped."""

    async def receive(self) -> Message:
        """Return the next message, as the server gives it."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self.is_whole = self.is_whole and self._size <= self._limit
            self._read = [*self._read, message] if self.is_whole else []
        return message

    def again(self) -> Receive:
        """Return what hands out first what was read already, and then the rest."""
        left = list(self._read)

        async def received() -> Message:
            return left.pop(0) if left else await self.receive()

        return received
