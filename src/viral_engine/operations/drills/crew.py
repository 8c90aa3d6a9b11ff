"""Who does what a story says: the deployment, who plays what in it, and what was seen of each fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from viral_engine.fly.client import FlyClient
from viral_engine.fly.extension import GlobeExtension
from viral_engine.operations.drills.cast import Cast
from viral_engine.operations.drills.story import Act
from viral_engine.operations.drills.witness import Seen, Witness, seen
from viral_engine.operations.observe import Found
from viral_engine.operations.operator_lock import Operator
from viral_engine.operations.progress import Progress

__all__ = ["Crew"]


@dataclass(slots=True)
class Crew:
    """Makes faults through ``globe`` and looks for them through ``witness``; ``seen`` grows by each look."""

    client: FlyClient
    cast: Cast
    machines: Sequence[Found]
    mark: Callable[[str], int]
    who: Operator
    progress: Progress
    seen: list[Seen] = field(default_factory=list)
    globe: GlobeExtension = field(init=False)
    witness: Witness = field(init=False)

    def __post_init__(self) -> None:
        self.globe = GlobeExtension(self.client)
        self.witness = Witness(self.client)

    def region(self, act: Act) -> str:
        """Return the region of an act that is done in one."""
        return self.cast.region(act.places[0])

    def of(self, role: str, region: str) -> list[Found]:
        """Return the machines of a role in a region."""
        return [
            one
            for one in self.machines
            if one.machine.role == role and one.machine.region == region
        ]

    def within(self, region: str) -> list[Found]:
        """Return every machine of a region."""
        return [one for one in self.machines if one.machine.region == region]

    def saw(self, fault: str, by: str, saw: str, *, holds: bool) -> None:
        """Note what a look of its own showed."""
        self.seen.append(seen(fault, by, saw, holds=holds))
