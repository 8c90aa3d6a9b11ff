"""When a primary's lock is taken from it early: pure, from what one observer sees.

Patroni lets a lost primary's lock run out for 20 s. An observer at a third site may end it sooner
when two sites agree that the primary is gone. That such a primary may still be alive somewhere is
what primacy is for: the next one is promoted only when the claim of the last has lapsed.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto

__all__ = ["OVERDUE_S", "Evidence", "Move", "Step", "next_step", "standbys_of", "why_not_allowed"]

OVERDUE_S = 1.3
"""A holder renews primacy each second; from then on it is asked for."""
MISSED_S = 2.5
"""At least two renewals are missing; one may be late by a round trip and an election of etcd's leader
alone makes nobody silent."""
SILENT_LOOKS = 2
"""Times in a row that nothing in the primary's region answered this observer."""


class Move(Enum):
    """What an observer does about the primary's lock."""

    WATCH = auto()
    LOOK = auto()
    """Ask the primary's region and the standby, since a renewal is overdue."""
    REFUSE = auto()
    REVOKE = auto()


@dataclass(frozen=True, slots=True)
class Step:
    """A move, and for people why."""

    move: Move
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one observer knows at one moment; ``unrenewed_s`` by its own clock.

    ``silent_looks`` counts in a row; ``streams`` says of each synchronous standby that answers
    whether it still receives the primary's log.
    """

    here: str
    leader: str | None
    holder: str | None
    unrenewed_s: float
    synchronous: Collection[str]
    not_allowed: str
    silent_looks: int
    streams: Collection[bool]

    @property
    def is_third(self) -> bool:
        """Whether the observer is neither the primary's site nor its standby's."""
        return self.leader is not None and self.here not in {self.leader, *self.synchronous}


def next_step(seen: Evidence) -> Step:
    """Return what to do: the lock is revoked only when every witness against the primary agrees.

    The primary does not renew primacy, nothing in its region answers here, and its synchronous
    standby, at another site, has lost its stream. Who is one of the two decides nothing.
    """
    if not seen.is_third or seen.unrenewed_s < OVERDUE_S:
        return Step(Move.WATCH)
    if seen.unrenewed_s < MISSED_S or seen.silent_looks < SILENT_LOOKS:
        return Step(Move.LOOK)
    refusal = _why_not(seen)
    return Step(Move.REFUSE, refusal) if refusal else Step(Move.REVOKE)


def _why_not(seen: Evidence) -> str:
    if seen.not_allowed:
        return seen.not_allowed
    if seen.holder != seen.leader:
        return f"primacy is {seen.holder or 'nobody'}'s, so nothing tells when {seen.leader} ends"
    if not seen.synchronous:
        return "it had no synchronous standby, so any other may lack what was acknowledged"
    if not seen.streams:
        return "the synchronous standby does not answer either"
    if any(seen.streams):
        return "the sites disagree: the synchronous standby still receives its log"
    return ""


def why_not_allowed(config: str | None) -> str:
    """Return why the cluster's configuration forbids it, empty where it allows it."""
    found = _object(config)
    if found.get("pause"):
        return "automatic failover is paused"
    if str(found.get("synchronous_mode")).lower() not in {"on", "true"}:
        return "synchronous_mode is off, so a standby may lack what was acknowledged"
    return ""


def standbys_of(note: str | None, *, leader: str | None) -> frozenset[str]:
    """Return the synchronous standbys of ``leader`` by Patroni's note; none by another's note."""
    found = _object(note)
    if found.get("leader") != leader:
        return frozenset()
    return frozenset(filter(None, str(found.get("sync_standby") or "").split(",")))


def _object(text: str | None) -> dict[str, object]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
