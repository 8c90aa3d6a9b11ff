from __future__ import annotations

from dataclasses import dataclass

from viral_engine.data import Need
from viral_engine.web.asgi import MAX_REPLAY_BODY, Scope, declared_length, may_have_body
from viral_engine.web.headers import Incoming
from viral_engine.web.session import OpenedSession
from viral_engine.web.signing import Replay
from viral_engine.web.sticky import STICKY, Home, SentHome

__all__ = ["Place", "Visit", "need_of_method", "no_tenant"]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where this process runs, as answers name it."""

    region: str
    machine: str


def need_of_method(scope: Scope) -> Need:
    """Return PRIMARY for the HTTP methods that change something, NEAR for the rest and sockets."""
    if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
        return Need.PRIMARY
    return Need.NEAR


def no_tenant(_scope: Scope) -> str:
    """Return the tenant of a service that has none."""
    return ""


@dataclass(slots=True)
class Visit:
    """One request, or one socket, on its way through the middleware.

    ``has_begun`` once a part of its answer was sent; ``is_dropped`` once its handler's answer is not
    sent, since the request is served elsewhere, or ``is_held`` to be served once more. ``is_last``
    once that is over, so that whatever it is answered is sent. ``attempts`` counts how often it was
    begun here.
    """

    scope: Scope
    incoming: Incoming
    opened: OpenedSession
    need: Need
    replay: Replay | None
    home: SentHome
    has_begun: bool = False
    is_dropped: bool = False
    is_held: bool = False
    is_last: bool = False
    attempts: int = 0
    goes_home: Home | None = None

    @property
    def is_http(self) -> bool:
        """Whether it is no socket."""
        return bool(self.scope["type"] == "http")

    @property
    def is_at_its_end(self) -> bool:
        """Whether it was sent here for the primary's sake, or back: then it is never sent on."""
        if self.incoming.came_back:
            return True
        return self.replay is not None and self.replay.reason != STICKY

    @property
    def may_go_home(self) -> bool:
        """Whether its session's home may have it: it reads, and nobody has handed it on before.

        Only a body that a proxy is sure to keep goes there; any other is read here.
        """
        if self.home.home is None or self.need is not Need.NEAR:
            return False
        if self.incoming.replay_source is not None or self.incoming.came_back:
            return False
        length = declared_length(self.scope)
        return not may_have_body(self.scope) if length is None else length <= MAX_REPLAY_BODY
