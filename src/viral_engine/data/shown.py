from __future__ import annotations

from viral_engine.data.positions import Position
from viral_engine.data.token import SessionToken
from viral_engine.lsn import Lsn

__all__ = ["ShownCommits"]


class ShownCommits:
    """Up to where a primary is known to show every commit, since none waited for a standby there."""

    def __init__(self) -> None:
        self._up_to = (0, Lsn(0))

    def note(self, position: Position) -> None:
        """Count in where a node stood, if it is a primary at which no commit waited."""
        if not position.in_recovery and not position.waiting:
            self._up_to = max(self._up_to, (position.timeline, position.lsn))

    def holds(self, token: SessionToken) -> bool:
        """Tell whether a primary shows all that the holder of ``token`` has seen.

        What it saw at a primary is shown there, its own commits too; what is of an older timeline
        was settled by the promotion.
        """
        timeline, lsn = self._up_to
        if not token.ahead.position or token.timeline < timeline:
            return True
        return token.timeline == timeline and token.ahead <= lsn
