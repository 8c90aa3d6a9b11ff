"""Who alone may acknowledge writes: what one observer knows of the key, and what it does next.

All times are seconds of the boot clock of the machine that counts. Why nobody else's clock matters:
docs/decisions, the note on primacy.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum, auto

from viral_engine.cluster.etcd import EtcdSnapshot

__all__ = [
    "RENEW_EVERY_S",
    "UNCHANGED_S",
    "VALID_S",
    "Claim",
    "Engine",
    "Move",
    "Sight",
    "Situation",
    "deadline_of",
    "is_expired",
    "may_claim",
    "next_move",
    "primacy_key",
    "sight_of",
]

RENEW_EVERY_S = 1.0
VALID_S = 4.0
UNCHANGED_S = 5.0
"""Longer than ``VALID_S`` by what two clocks of sound machines cannot drift apart in that time."""
OTHER_LEADER_S = 2.0


def primacy_key(cluster: str) -> str:
    """Return the key in etcd that the one who may acknowledge renews."""
    return f"/viral/{cluster}/primacy"


@dataclass(frozen=True, slots=True)
class Claim:
    """What the key holds: which machine, which run of its node process, and that run's attempt."""

    region: str
    machine: str
    run: str
    attempt: int = 0

    @classmethod
    def parse(cls, text: str) -> Claim:
        """Read a key's value; what is no claim reads as somebody else's."""
        try:
            raw = json.loads(text)
            return cls(str(raw["region"]), str(raw["machine"]), str(raw["run"]), raw["attempt"])
        except (ValueError, KeyError, TypeError):
            return cls("", "", "")

    def text(self) -> str:
        """Return the value to write."""
        names = {"region": self.region, "machine": self.machine, "run": self.run}
        return json.dumps({**names, "attempt": self.attempt}, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Sight:
    """What one observer last saw: the key, since when unchanged, and who holds Patroni's lock."""

    store: int
    """The revision of the store at which this was so: of two answers the greater is the later."""
    revision: int
    """The one that wrote the key; 0 while there is none."""
    claim: Claim | None
    since: float
    leader: str | None
    leader_since: float


def sight_of(
    before: Sight | None, found: EtcdSnapshot, *, key: str, leader_key: str, now: float
) -> Sight:
    """Return what is known once ``found`` has arrived, ``now``; an older answer changes nothing."""
    if before is not None and found.revision < before.store:
        return before
    pair, lock = found.pairs.get(key), found.pairs.get(leader_key)
    revision = 0 if pair is None else pair.revision
    leader = None if lock is None else lock.value
    same = before is not None and before.revision == revision
    same_leader = before is not None and before.leader == leader
    return Sight(
        store=found.revision,
        revision=revision,
        claim=None if pair is None else Claim.parse(pair.value),
        since=before.since if same and before is not None else now,
        leader=leader,
        leader_since=before.leader_since if same_leader and before is not None else now,
    )


def may_claim(sight: Sight, me: Claim, now: float) -> bool:
    """Tell whether the key may be written if it still is as seen.

    It may when there is none, when this very run wrote it, or when it has not changed for 5 s by
    the observer's clock: whoever wrote it had sent that before, and trusted it for 4 s from then.
    """
    if sight.claim is None or sight.claim.run == me.run:
        return True
    return now - sight.since >= UNCHANGED_S


def deadline_of(sent: float) -> float:
    """Return until when a claim sent at ``sent`` may be trusted, once it is known to be written."""
    return sent + VALID_S


def is_expired(deadline: float | None, now: float) -> bool:
    """Tell whether there was a deadline and it has passed."""
    return deadline is not None and now >= deadline


class Engine(Enum):
    """What the PostgreSQL of this machine is doing."""

    DOWN = auto()
    """None of its processes is there."""
    LEFTOVERS = auto()
    """Its postmaster is gone and some other process of it is not: that may still answer."""
    BUSY = auto()
    """It starts or stops."""
    REPLICA = auto()
    PRIMARY = auto()


class Move(Enum):
    """What a node does next about the key."""

    WATCH = auto()
    CLAIM = auto()
    """Write it: the first time, or to renew it."""
    RELEASE = auto()
    KILL = auto()
    """End PostgreSQL: another node may acknowledge now, or soon."""


@dataclass(frozen=True, slots=True)
class Situation:
    """All that the next move depends on; ``deadline`` is None while this node does not hold."""

    me: Claim
    engine: Engine
    primary_since: float | None
    sight: Sight | None
    deadline: float | None
    promoting: bool
    now: float


def next_move(here: Situation) -> Move:
    """Decide what to do about the key and, should it come to that, to PostgreSQL."""
    acknowledges = here.engine in {Engine.PRIMARY, Engine.BUSY}
    if here.engine is Engine.LEFTOVERS or (acknowledges and is_expired(here.deadline, here.now)):
        return Move.KILL
    if here.sight is None:
        return Move.WATCH
    match here.engine:
        case Engine.PRIMARY:
            return _as_primary(here, here.sight)
        case Engine.BUSY:
            return Move.WATCH if here.deadline is None else Move.CLAIM
        case Engine.REPLICA if here.promoting:
            return Move.CLAIM if may_claim(here.sight, here.me, here.now) else Move.WATCH
        case _:
            # Nothing here acknowledges. What an earlier run of this machine left goes as well.
            claim = here.sight.claim
            own = claim is not None and claim.machine == here.me.machine
            return Move.RELEASE if own else Move.WATCH


def _as_primary(here: Situation, sight: Sight) -> Move:
    since = here.now if here.primary_since is None else here.primary_since
    if sight.leader not in {None, here.me.region}:
        # Patroni would have stopped it long since, if it still ran: the other waits for the key.
        waited = here.now - max(since, sight.leader_since)
        return Move.KILL if waited >= OTHER_LEADER_S else Move.WATCH
    if may_claim(sight, here.me, here.now):
        return Move.CLAIM
    # Seen renewed by another after a full period as primary: there are two, and this is the wrong one.
    return Move.KILL if sight.since - since >= RENEW_EVERY_S else Move.WATCH
