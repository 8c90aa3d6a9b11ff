"""Hybrid logical clocks: close to the wall clock, and never against causality.

After S. Kulkarni, M. Demirbas, D. Madappa, B. Avva and M. Leone, *Logical Physical Clocks*,
OPODIS 2014.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from viral_engine.clock import SYSTEM_CLOCK, Clock
from viral_engine.errors import ClockAheadError

__all__ = ["HybridClock", "HybridTime", "refuse_ahead"]

DEFAULT_MAX_AHEAD = timedelta(minutes=1)

_WALL_BITS = 48
_COUNTER_BITS = 16
_LAST_COUNT = (1 << _COUNTER_BITS) - 1
_NODE = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TEXT = re.compile(r"([0-9a-f]{12})-([0-9a-f]{4})-(.*)", re.DOTALL)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, order=True)
class HybridTime:
    """A moment of a hybrid clock; any two are ordered: by wall time, counter, then node.

    ``wall_ms`` counts from 1970 and has 48 bits, ``counter`` 16; ``node`` is 1 to 128 letters,
    digits, dots, colons, hyphens and underscores. Raises ValueError for anything else.
    """

    wall_ms: int
    counter: int
    node: str

    def __post_init__(self) -> None:
        if not (0 <= self.wall_ms < 1 << _WALL_BITS and 0 <= self.counter <= _LAST_COUNT):
            msg = f"a hybrid time has 48 + 16 bits, got {self.wall_ms} and {self.counter}"
            raise ValueError(msg)
        if _NODE.fullmatch(self.node) is None:
            msg = f"not a node of a hybrid time: {self.node!r}"
            raise ValueError(msg)

    @classmethod
    def parse(cls, text: str) -> HybridTime:
        """Read what ``str`` wrote, such as ``0199a3b2c4d5-0001-lhr-1``; else raise ValueError."""
        match = _TEXT.fullmatch(text)
        if match is None:
            msg = f"not a hybrid time: {text[:80]!r} (expected as 0199a3b2c4d5-0001-node)"
            raise ValueError(msg)
        return cls(int(match[1], 16), int(match[2], 16), match[3])

    @classmethod
    def from_number(cls, number: int, node: str) -> HybridTime:
        """Read what ``number`` gave, together with the node, which does not fit into 64 bits."""
        return cls(number >> _COUNTER_BITS, number & _LAST_COUNT, node)

    @property
    def number(self) -> int:
        """The time in 64 bits, which compare as the times do until wall and counter are equal."""
        return self.wall_ms << _COUNTER_BITS | self.counter

    @property
    def wall(self) -> datetime:
        """The wall-clock part, in UTC; raises OverflowError beyond the year 9999."""
        return _EPOCH + self.wall_ms * _MILLISECOND

    def __str__(self) -> str:
        # Of fixed widths, so that texts sort as times do, in ASCII and in the collation "C".
        return f"{self.wall_ms:012x}-{self.counter:04x}-{self.node}"


class HybridClock:
    """Gives each moment once: later than all that this clock gave or observed.

    It owns its state and belongs to one event loop; a process that starts again must observe what
    it stored before it stamps anew, since its wall clock may have gone back meanwhile. ``node``
    must be the clock's own: two clocks of one name can give the same time twice.
    """

    def __init__(
        self,
        node: str,
        *,
        clock: Clock = SYSTEM_CLOCK,
        max_ahead: timedelta = DEFAULT_MAX_AHEAD,
    ) -> None:
        self._clock = clock
        self._max_ahead = max_ahead
        self._last = HybridTime(0, 0, node)

    def now(self) -> HybridTime:
        """Return the next time; it goes on, in small steps, while the wall clock goes back."""
        wall = self._wall_ms()
        self._last = _following(self._last, max(wall, self._last.wall_ms))
        return self._last

    def observe(self, remote: HybridTime) -> HybridTime:
        """Count in a time from elsewhere, and return one that is later than it and than all before.

        Raises ClockAheadError, and forgets it, when it is further ahead of this wall clock than
        ``max_ahead``: one clock off by an hour would else take everybody along.
        """
        wall = self._wall_ms()
        whose = f"the clock of {self._last.node}"
        refuse_ahead(remote, wall_ms=wall, whose=whose, max_ahead=self._max_ahead)
        later = max(self._last, HybridTime(remote.wall_ms, remote.counter, self._last.node))
        self._last = _following(later, max(wall, later.wall_ms))
        return self._last

    def _wall_ms(self) -> int:
        return max(0, (self._clock.now() - _EPOCH) // _MILLISECOND)


def refuse_ahead(
    time: HybridTime, *, wall_ms: int, whose: str, max_ahead: timedelta = DEFAULT_MAX_AHEAD
) -> None:
    """Raise ClockAheadError when a time is more than ``max_ahead`` ahead of somebody's wall clock."""
    ahead = (time.wall_ms - wall_ms) * _MILLISECOND
    if ahead > max_ahead:
        raise ClockAheadError(
            f"The time {time} is {ahead.total_seconds():.0f} s ahead of {whose};"
            f" at most {max_ahead.total_seconds():g} s are allowed."
        )


def _following(last: HybridTime, wall_ms: int) -> HybridTime:
    if wall_ms > last.wall_ms:
        return HybridTime(wall_ms, 0, last.node)
    if last.counter < _LAST_COUNT:
        return HybridTime(last.wall_ms, last.counter + 1, last.node)
    # 65,536 times in a millisecond: borrow the next one.
    return HybridTime(last.wall_ms + 1, 0, last.node)
