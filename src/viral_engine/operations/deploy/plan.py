"""What a deploy will do: changes in stages, and what it leaves alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from viral_engine.operations.deploy.changes import Change


class Until(StrEnum):
    """What is waited for after a stage, before the next."""

    DONE = "done"
    PRIMARY = "primary"
    """A database serves as primary."""
    HEALTHY = "healthy"
    """The machines of the stage are healthy."""
    WELL = "well"
    """All databases stream, and a synchronous standby is there again."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Changes that are made at once, and what is waited for then."""

    title: str
    changes: tuple[Change, ...]
    until: Until = Until.DONE


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages in their order; ``notes`` say what was found otherwise and is left as it is."""

    stages: tuple[Stage, ...]
    notes: tuple[str, ...] = ()

    @property
    def changes(self) -> tuple[Change, ...]:
        """All changes in their order."""
        return tuple(change for stage in self.stages for change in stage.changes)

    @property
    def steps(self) -> tuple[str, ...]:
        """All changes, a sentence each with its reason."""
        return tuple(f"{change.sentence} ({change.reason})" for change in self.changes)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The notes, under the name that every plan has for them."""
        return self.notes

    def facts(self) -> dict[str, Any]:
        """The plan for programs: the same for the same state, without times and without secrets."""
        return {"changes": [change.facts() for change in self.changes],
                "notes": list(self.notes)}  # fmt: skip
