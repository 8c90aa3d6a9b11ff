"""A story: what is broken in a deployment, when, and what must hold, as frozen values.

A story names roles, not regions, so that it can be played on any deployment: ``primary``,
``replica`` (another region with a database), ``witness``, ``etcd-leader``, and ``others``, which is
every region but the one named beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["PHASE", "ROLES", "Act", "Draw", "Expect", "Story"]

ROLES = ("primary", "replica", "witness", "etcd-leader", "others")

PHASE = 3.0
"""Seconds within which the first act begins: what is renewed once a second is met at any phase."""

OF_PACKETS = frozenset({"cut", "one-way", "flap", "blackout", "delay", "loss"})
"""Acts that need a network of packets."""


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that is done ``at`` so many seconds from the first, and undone after ``lasts``.

    ``within``: it comes up to so many seconds later, drawn from the seed. ``places`` are roles.
    """

    do: str
    places: tuple[str, ...] = ()
    at: float = 0.0
    lasts: float = 0.0
    within: float = 0.0
    what: str = ""
    amount: float = 0.0

    @property
    def ends(self) -> float:
        """When it is undone at the latest."""
        return self.at + self.within + self.lasts


@dataclass(frozen=True, slots=True)
class Expect:
    """What must hold: ``moves`` says whether the primary is to move; None has no target.

    ``lost`` has the roles whose edge is gone, so that their users are led to another, ``cut_off``
    those whose users stay inside with it. ``election`` allows etcd to elect a leader.
    ``failed`` bounds failed requests of any kind at surviving edges, ``failed_reads`` eventual reads;
    ``share`` is below which part of all requests must fail.
    """

    moves: str = "no"
    election: bool = False
    lost: tuple[str, ...] = ()
    cut_off: tuple[str, ...] = ()
    write_gap_s: float | None = None
    failed: int | None = None
    share: float | None = None
    failed_reads: int | None = 0


@dataclass(frozen=True, slots=True)
class Draw:
    """So many of the named stories, drawn from the seed, each begun up to ``spread`` seconds apart."""

    count: int
    among: tuple[str, ...]
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class Story:
    """A sentence of what happens, its numbers in the catalogue of faults, acts, expectations."""

    name: str
    sentence: str
    catalogue: tuple[int, ...]
    acts: tuple[Act, ...] = ()
    expect: Expect = field(default_factory=Expect)
    phase: float = PHASE
    draw: Draw | None = None

    @property
    def needs_wan(self) -> bool:
        """Whether something happens to packets."""
        return any(act.do in OF_PACKETS for act in self.acts)

    @property
    def length(self) -> float:
        """Seconds from the first act until the last one is undone, at the most."""
        return max((act.ends for act in self.acts), default=0.0)
