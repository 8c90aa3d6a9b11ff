"""Positions in PostgreSQL's log, as values that can be compared and subtracted."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Lsn"]

_TEXT = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_LARGEST = 2**64 - 1


@dataclass(frozen=True, slots=True, order=True)
class Lsn:
    """A log sequence number: the byte at ``position`` in the log of one timeline.

    Two of them can be compared only within one timeline; whoever compares them checks that.
    Raises ValueError for a position outside 64 bits.
    """

    position: int

    def __post_init__(self) -> None:
        if not 0 <= self.position <= _LARGEST:
            msg = f"a log position has 64 bits, got {self.position}"
            raise ValueError(msg)

    @classmethod
    def parse(cls, text: str) -> Lsn:
        """Read PostgreSQL's spelling, such as ``0/3000060``; raise ValueError for any other."""
        match = _TEXT.fullmatch(text)
        if match is None:
            msg = f"not a log position: {text!r} (expected two hexadecimal halves, as 0/3000060)"
            raise ValueError(msg)
        return cls((int(match[1], 16) << 32) | int(match[2], 16))

    def __str__(self) -> str:
        return f"{self.position >> 32:X}/{self.position & 0xFFFFFFFF:X}"

    def __sub__(self, other: Lsn) -> int:
        """Return how many bytes of log lie between ``other`` and this; negative when it is ahead."""
        return self.position - other.position
