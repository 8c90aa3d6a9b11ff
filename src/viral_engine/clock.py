"""Time: a clock that can be handed in, deadlines on it, and waits that end and say why.

``wait_until(condition, *, timeout, waiting_for, interval=50 ms)`` asks ``condition`` again and again
until it answers. A condition is sync or async and returns

- a value: it is what ``wait_until`` returns;
- ``None`` or ``False``: not yet;
- ``NotYet("2 of 3 members are up")``: not yet, and this is what is seen instead, which the
  error repeats when time runs out.

What a condition raises ends the wait at once: the place to say that it can never come true.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, TypeVar, overload

from viral_engine.errors import UnsupportedError, WaitTimeoutError

__all__ = [
    "BOOT_CLOCK",
    "SYSTEM_CLOCK",
    "BootClock",
    "Clock",
    "Deadline",
    "NotYet",
    "SystemClock",
    "wait_until",
]

T = TypeVar("T")

DEFAULT_INTERVAL = timedelta(milliseconds=50)


class Clock(Protocol):
    """What tells the time; handed in, so that a test can hold it still."""

    def now(self) -> datetime:
        """Return the wall-clock time, aware and in UTC; it may jump, so never measure with it."""

    def monotonic(self) -> float:
        """Return seconds since some fixed point; they never go back."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Return the wall-clock time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds of the monotonic clock, which stands still while the machine sleeps."""
        return time.monotonic()


SYSTEM_CLOCK: Clock = SystemClock()


class BootClock:
    """Seconds since this machine booted, the time that it slept included; Linux only.

    Read from ``/proc/uptime`` (0.01 s steps) and from nowhere else: the database reads the same
    file, and in some containers it does not count from where the kernel's own clock does.
    """

    def __init__(self, source: Path = Path("/proc/uptime")) -> None:
        self._source = source

    def is_there(self) -> bool:
        """Tell whether this machine has such a clock."""
        return self._source.exists()

    def seconds(self) -> float:
        """Return the seconds since the boot; raise UnsupportedError where nothing counts them."""
        try:
            return float(self._source.read_bytes().split()[0])
        except OSError as error:
            raise UnsupportedError(f"{self._source} cannot be read: {error}") from error


BOOT_CLOCK = BootClock()


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on a monotonic clock by which something must be done."""

    at: float
    clock: Clock = field(default=SYSTEM_CLOCK, repr=False, compare=False)

    @classmethod
    def after(cls, duration: timedelta, clock: Clock = SYSTEM_CLOCK) -> Deadline:
        """Return the deadline that lies ``duration`` from now."""
        return cls(clock.monotonic() + duration.total_seconds(), clock)

    def remaining(self) -> timedelta:
        """Return the time that is left, zero once the deadline has passed."""
        return timedelta(seconds=max(0.0, self.at - self.clock.monotonic()))

    def passed(self) -> bool:
        """Tell whether no time is left."""
        return self.clock.monotonic() >= self.at


@dataclass(frozen=True, slots=True)
class NotYet:
    """A condition's answer that it does not hold, with what is seen instead."""

    seen: str


Answer: TypeAlias = T | NotYet | Literal[False] | None


@overload
async def wait_until(
    condition: Callable[[], Awaitable[Answer[T]]],
    *,
    timeout: timedelta,
    waiting_for: str,
    interval: timedelta = ...,
) -> T: ...


@overload
async def wait_until(
    condition: Callable[[], Answer[T]],
    *,
    timeout: timedelta,
    waiting_for: str,
    interval: timedelta = ...,
) -> T: ...


async def wait_until(
    condition: Callable[[], Answer[T] | Awaitable[Answer[T]]],
    *,
    timeout: timedelta,
    waiting_for: str,
    interval: timedelta = DEFAULT_INTERVAL,
) -> T:
    """Return the first value that ``condition`` answers, asking it every ``interval``.

    A condition is asked at least once, and one that hangs is cancelled when ``timeout`` is over.
    Raises WaitTimeoutError, which names ``waiting_for`` and what was last seen.
    """
    seen = ""
    try:
        async with asyncio.timeout(timeout.total_seconds()) as bound:
            while True:
                asked = condition()
                answer = await asked if inspect.isawaitable(asked) else asked
                if isinstance(answer, NotYet):
                    seen = answer.seen
                elif answer is not None and answer is not False:
                    return answer
                await asyncio.sleep(interval.total_seconds())
    except TimeoutError as error:
        # A TimeoutError of the condition's own is its business, not the end of our time.
        if not bound.expired():
            raise
        last = f"; last seen: {seen}" if seen else ""
        raise WaitTimeoutError(
            f"waited {timeout.total_seconds():g} s for {waiting_for}{last}"
        ) from error
