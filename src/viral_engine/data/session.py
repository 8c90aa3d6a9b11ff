from __future__ import annotations

from viral_engine.clock import SYSTEM_CLOCK, Clock
from viral_engine.data.positions import Position
from viral_engine.data.token import SessionToken, TokenKind, merge

__all__ = ["Session"]


class Session:
    """What the client of one request has seen: what it said, and what this request adds to it.

    It only advances. ``wrote`` tells whether this request itself has committed something.
    """

    def __init__(self, token: SessionToken | None = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.token = token
        self.wrote = False
        self._clock = clock

    def saw(self, position: Position, *, cluster: int, kind: TokenKind) -> None:
        """Count in all up to ``position`` of ``cluster``; another cluster's token is dropped."""
        self.wrote = self.wrote or kind is TokenKind.WRITE
        seen = SessionToken(cluster, position.timeline, position.lsn, self._clock.now(), kind)
        known = self.token
        self.token = merge(known, seen) if known and known.cluster == cluster else seen
