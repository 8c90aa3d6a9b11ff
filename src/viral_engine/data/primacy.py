from __future__ import annotations

from collections.abc import Mapping

from viral_engine.clock import SYSTEM_CLOCK, Clock
from viral_engine.data.pools import Connection

__all__ = ["PrimacyKnowledge"]

ASK_AGAIN_S = 60.0


class PrimacyKnowledge:
    """Whether the cluster keeps primacy, asked of the first connection that leads to it.

    A cluster that keeps it goes on keeping it; one that does not may begin to, and is asked again
    after a minute. With ``asks`` False it counts as not kept: the control arm of drills.
    """

    def __init__(
        self, statements: Mapping[str, bytes], *, asks: bool, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._question = statements["is_guarded"]
        self._asks = asks
        self._clock = clock
        self._kept = False
        self._ask_at = clock.monotonic()

    async def is_kept(self, connection: Connection) -> bool:
        """Tell it, at the price of one question at first and, while it is not kept, each minute."""
        if self._asks and not self._kept and self._clock.monotonic() >= self._ask_at:
            cursor = await connection.execute(self._question)
            row = await cursor.fetchone()
            self._kept = bool(row and row[0])
            self._ask_at = self._clock.monotonic() + ASK_AGAIN_S
        return self._kept
