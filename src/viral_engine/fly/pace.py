"""How a polite client asks: not faster than the platform allows, and again where that is safe."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Sleep = Callable[[float], Awaitable[None]]

CHANGES = (1.0, 3)
READS = (5.0, 10)
"""Calls a second, and how many at once: Fly.io's limits for one action on one app or machine."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is made at most, and the seconds between; an answer's own wish comes first.

    Repeated are calls that the platform put off (429), and reads that failed on the way.
    """

    attempts: int = 5
    first_delay: float = 0.1
    longest_delay: float = 0.5
    longest_wish: float = 60.0
    sleep: Sleep = asyncio.sleep

    def delay(self, attempt: int, wish: float | None) -> float:
        """Seconds before the next call, after ``attempt`` of them failed."""
        if wish is not None:
            return min(wish, self.longest_wish)
        return min(self.first_delay * 2.0 ** (attempt - 1), self.longest_delay)


@dataclass(eq=False, slots=True)
class Pace:
    """Token buckets, one for each action on each app or machine: a call waits for its token."""

    now: Callable[[], float] = time.monotonic
    sleep: Sleep = asyncio.sleep
    _free_at: dict[tuple[str, str], float] = field(default_factory=dict)
    """When the bucket of an action is full again; each call puts that off by its share."""

    async def turn(self, method: str, path: str) -> None:
        """Return when this call may be made."""
        rate, burst = READS if method == "GET" else CHANGES
        key = (method, path)
        now = self.now()
        full_at = max(self._free_at.get(key, now), now) + 1 / rate
        self._free_at[key] = full_at
        wait = full_at - now - burst / rate
        if wait > 1e-9:  # what is left of a subtraction is no time
            await self.sleep(wait)
