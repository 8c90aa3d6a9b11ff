"""Which app machines serve where one region serves and the others stand by: pure."""

from __future__ import annotations

from dataclasses import dataclass

from viral_engine.operations.duty import Act, Task
from viral_engine.operations.formation import Formation

__all__ = ["TurnOver", "plan_turn_over"]

STOPPED = "stopped"

Stages = tuple[tuple[Task, ...], ...]


@dataclass(frozen=True, slots=True)
class TurnOver:
    """What makes a region the one that serves, and then lets the others stand by."""

    activate: Stages = ()
    stand_down: Stages = ()

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do, as always where all regions serve."""
        return not (self.activate or self.stand_down)


def plan_turn_over(formation: Formation, to: str) -> TurnOver:
    """Decide it for a deployment that declares active-passive; for another there is nothing to do.

    The machines of the new region start before any other's are taken away, so that somebody serves.
    """
    if formation.passive is None:
        return TurnOver()
    apps = [one for one in formation.machines if one.role == "app"]
    here = [one for one in apps if one.region == to]
    away = [one for one in apps if one.region != to]
    stops = formation.passive == STOPPED
    return TurnOver(
        _stages(
            [Task(Act.START, one) for one in here if not (one.running and one.healthy)],
            [Task(Act.UNCORDON, one) for one in here if one.cordoned],
        ),
        _stages(
            [Task(Act.CORDON, one) for one in away if not one.cordoned],
            [Task(Act.DRAIN, one) for one in away if one.running and not one.cordoned],
            [Task(Act.STOP, one) for one in away if one.running and stops],
        ),
    )


def _stages(*stages: list[Task]) -> Stages:
    return tuple(tuple(stage) for stage in stages if stage)
