"""How a drill is played: how much load, for how long, from which seed."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from viral_engine.errors import MisuseError
from viral_engine.operations.drills.story import Story

__all__ = ["CALM_SHARE", "Options", "seconds_of"]

CALM_SHARE = 0.25
"""The first act comes after so much of the time, and up to the story's phase later."""

USUAL_S, LEFT_S = 45.0, 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """Requests a second and users, both in all, seconds of load (None: as the story needs), a seed."""

    rate: float = 15.0
    vus: int = 100
    seconds: float | None = None
    seed: int = 0


def seconds_of(story: Story, options: Options) -> float:
    """Return how long the load lasts; raises MisuseError where the story does not fit in."""
    needed = ceil((story.phase + story.length + LEFT_S) / (1 - CALM_SHARE))
    if options.seconds is None:
        return max(USUAL_S, needed)
    if options.seconds < needed:
        raise MisuseError(
            f"The drill {story.name} does not fit into {options.seconds:g} s.",
            suggestion=f"It needs at least --duration {needed}s.",
        )
    return options.seconds
