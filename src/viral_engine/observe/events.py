from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = [
    "CircuitClosed",
    "CircuitOpened",
    "Event",
    "Listener",
    "NodeAnswered",
    "NodeLost",
    "PrimaryChanged",
    "RequestRouted",
]


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


@dataclass(frozen=True, slots=True)
class RequestRouted:
    """A request was answered; ``route`` and ``reason`` are those of its ``viral-route``."""

    route: str
    reason: str
    region: str | None
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CircuitOpened:
    """What failed several times in a row is not asked for a moment: ``write lhr``, ``near iad``."""

    name: str


@dataclass(frozen=True, slots=True)
class CircuitClosed:
    """What was not asked for a moment has answered."""

    name: str


Event = PrimaryChanged | NodeLost | NodeAnswered | RequestRouted | CircuitOpened | CircuitClosed

Listener = Callable[[Event], None]
