"""What a consistency workload is: clients that write down what they saw beside a drill, and a judge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from viral_engine.operations.drills.clients import Book
from viral_engine.operations.drills.history import Operation
from viral_engine.operations.drills.verdict import Verdict

__all__ = ["Judged", "MakeWorkload", "Played", "Setting", "Workload"]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a workload is made from: edges by region, where it writes down, and who is primary.

    ``book`` is its own: nothing but what it does is in that history.
    """

    edges: Mapping[str, str]
    book: Book
    seed: int
    primary: str


@dataclass(frozen=True, slots=True)
class Played:
    """What a story did, in nanoseconds of the history's clock.

    ``faulted_at`` is when its first act began, ``healed_at`` when its last one was undone. ``lost``
    has the regions whose edge was gone meanwhile; ``moved`` whether another primary took over,
    with which eventual writes may be lost.
    """

    primary: str
    lost: frozenset[str]
    began_at: int
    faulted_at: int
    healed_at: int
    ended_at: int
    moved: bool = True


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict with the counts that it rests on; one of zero in ``at_stake`` makes it unknown."""

    verdict: Verdict
    operations: int
    at_stake: Mapping[str, int]


class Workload(Protocol):
    """One kind of clients; made anew for every drill."""

    @property
    def name(self) -> str:
        """What it is called in reports."""

    async def prepare(self) -> None:
        """Make the rows that it works on, before the load begins."""

    def loops(self, stop: asyncio.Event) -> Sequence[Coroutine[Any, Any, None]]:
        """Return every client's life; each ends its last request once ``stop`` is set."""

    async def finish(self) -> None:
        """Read what is there at last in every region, once all is healed and well, and keep it."""

    def judge(self, history: Sequence[Operation], played: Played) -> Judged:
        """Rule on its own history and what ``finish`` found, without asking anybody."""


MakeWorkload: TypeAlias = Callable[[Setting], Workload]
"""How the catalogue of workloads names one."""
