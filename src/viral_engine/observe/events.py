from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Event", "Listener", "NodeAnswered", "NodeLost", "PrimaryChanged"]


@dataclass(frozen=True, slots=True)
class PrimaryChanged:
    """This machine now sees the primary in another region, or nowhere (None)."""

    was: str | None
    now: str | None


@dataclass(frozen=True, slots=True)
class NodeLost:
    """The database of a region no longer answers this machine."""

    region: str
    reason: str


@dataclass(frozen=True, slots=True)
class NodeAnswered:
    """The database of a region answers this machine, for the first time or again."""

    region: str
    role: str


Event = PrimaryChanged | NodeLost | NodeAnswered

Listener = Callable[[Event], None]
