"""Whether and when a machine that exited is started again: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from viral_engine.fly.model import Restart, RestartPolicy

WINDOW = timedelta(minutes=5)
"""Restarts are counted within this time, as on Fly.io."""

FIRST_DELAY = timedelta(milliseconds=500)
LONGEST_DELAY = timedelta(seconds=10)
_DOUBLINGS = 5
"""After these the longest delay is reached; more would only overflow."""


@dataclass(frozen=True, slots=True)
class Again:
    """Start it again after ``delay``."""

    delay: timedelta


@dataclass(frozen=True, slots=True)
class Stay:
    """Leave it stopped; ``reason`` is for people."""

    reason: str


def after_exit(
    restart: Restart, *, code: int, now: float, restarts: Sequence[float]
) -> Again | Stay:
    """Decide by policy, exit code and the times (monotonic seconds) of earlier restarts.

    The delay doubles with each restart in the window, so that a crash loop costs little.
    """
    match restart.policy:
        case RestartPolicy.NO:
            return Stay("its restart policy is no")
        case RestartPolicy.SPOT_PRICE:
            return Stay("nothing is sold by a spot price here")
        case RestartPolicy.ON_FAILURE if code == 0:
            return Stay("its command ended well")
        case RestartPolicy.ON_FAILURE | RestartPolicy.ALWAYS:
            recent = sum(now - at < WINDOW.total_seconds() for at in restarts)
            if recent >= restart.max_retries:
                return Stay(f"it exited {recent + 1} times within 5 minutes, last with {code}")
            return Again(min(FIRST_DELAY * 2 ** min(recent, _DOUBLINGS), LONGEST_DELAY))
