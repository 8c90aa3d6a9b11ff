"""Which machines serve: cordon, drain, stop and start, decided over what was seen: pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from viral_engine.errors import MisuseError, RefusedError
from viral_engine.operations.formation import Attendance, Formation

__all__ = ["Act", "DutyPlan", "Task", "plan_duty"]

FIRST_TO_STOP = ("app", "worker", "cache", "database", "witness")
"""Who serves users goes before what it needs, and comes back after it."""


class Act(StrEnum):
    """What can be done to a machine's duty."""

    CORDON = "cordon"
    UNCORDON = "uncordon"
    DRAIN = "drain"
    STOP = "stop"
    START = "start"


_WORDS = {
    Act.CORDON: "Take {} out of the edges' reach",
    Act.UNCORDON: "Let the edges reach {} again",
    Act.DRAIN: "Wait until the connections of {} have ended",
    Act.STOP: "Stop {}, and see that it is stopped",
    Act.START: "Start {}, and wait until it is healthy",
}


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to do to one machine."""

    act: Act
    of: Attendance

    @property
    def sentence(self) -> str:
        """The step, for people."""
        return _WORDS[self.act].format(self.of.name)


@dataclass(frozen=True, slots=True)
class DutyPlan:
    """What will be done, machine by machine; tasks of one stage are done at once."""

    target: str
    act: Act
    stages: tuple[tuple[Task, ...], ...]
    warnings: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps in their order."""
        return tuple(task.sentence for stage in self.stages for task in stage)

    def facts(self) -> dict[str, Any]:
        """The plan for programs."""
        machines = dict.fromkeys(task.of.machine for stage in self.stages for task in stage)
        return {"target": self.target, "machines": list(machines),
                "warnings": list(self.warnings), "steps": list(self.steps)}  # fmt: skip


def plan_duty(formation: Formation, act: Act, target: str, *, force: bool = False) -> DutyPlan:
    """Decide what to do to a machine, or to a region's; raises MisuseError or RefusedError."""
    chosen = _chosen(formation, target)
    if act in {Act.CORDON, Act.UNCORDON, Act.DRAIN} and target not in {m.name for m in chosen}:
        # Users reach a region by these. The database's own address must not vanish with them.
        chosen = [one for one in chosen if one.role == "app"] or chosen
    if act is Act.START and target in formation.regions and _stands_by(formation, target):
        # Its app machines serve nobody until a failover turns that over.
        chosen = [one for one in chosen if one.role != "app"]
    against = list(_objections(formation, act, chosen))
    if against and not force:
        raise RefusedError(
            f"{' '.join(against)} Nothing was changed.",
            suggestion="Do it all the same with --force; a primary is moved first by: viral failover.",
        )
    stages = tuple(stage for stage in _stages(act, chosen) if stage)
    return DutyPlan(target, act, stages, tuple(against))


def _stands_by(formation: Formation, region: str) -> bool:
    """Whether users are led to another region, where one serves and the others stand by."""
    primary = formation.primary
    return formation.passive is not None and primary is not None and primary.region != region


def _chosen(formation: Formation, target: str) -> list[Attendance]:
    machines = formation.machines
    chosen = [one for one in machines if target in {one.region, one.machine, one.name}]
    if not chosen:
        regions = ", ".join(sorted({one.region for one in machines}))
        raise MisuseError(
            f"There is no region and no machine {target}.",
            suggestion=f"Regions: {regions}. Machines: viral machines.",
        )
    return sorted(chosen, key=lambda one: (FIRST_TO_STOP.index(_rank(one)), one.name))


def _rank(one: Attendance) -> str:
    return one.role if one.role in FIRST_TO_STOP else "app"


def _stages(act: Act, chosen: list[Attendance]) -> Iterator[tuple[Task, ...]]:
    """Cordon before anything ends: a machine that is merely stopped is started by the next request."""
    served = [one for one in chosen if one.role == "app" and one.running]
    match act:
        case Act.CORDON:
            yield tuple(Task(act, one) for one in chosen if not one.cordoned)
        case Act.UNCORDON:
            yield tuple(Task(act, one) for one in chosen if one.cordoned)
        case Act.DRAIN:
            yield tuple(Task(Act.CORDON, one) for one in chosen if not one.cordoned)
            yield tuple(Task(act, one) for one in served)
        case Act.STOP:
            yield tuple(Task(Act.CORDON, one) for one in served if not one.cordoned)
            yield tuple(Task(Act.DRAIN, one) for one in served)
            for role in FIRST_TO_STOP:
                here = [one for one in chosen if _rank(one) == role]
                # What serves no users is cordoned as it stops: its address leads to it until then.
                yield tuple(Task(Act.CORDON, m) for m in here if m not in served and not m.cordoned)
                yield tuple(Task(act, one) for one in here if one.running)
        case Act.START:
            for role in reversed(FIRST_TO_STOP):
                here = [one for one in chosen if _rank(one) == role]
                yield tuple(Task(Act.UNCORDON, one) for one in here if one.cordoned)
                yield tuple(Task(act, one) for one in here if not (one.running and one.healthy))


def _objections(formation: Formation, act: Act, chosen: list[Attendance]) -> Iterator[str]:
    if act in {Act.UNCORDON, Act.START}:
        return
    gone = {one.machine for one in chosen}
    primary = formation.primary
    if act is Act.STOP and primary is not None and primary.machine in gone:
        yield f"{primary.region} holds the primary."
    voices = primary.voices if primary is not None else {}
    silent = {
        one.region for one in chosen if act is Act.STOP and one.role in {"database", "witness"}
    }
    left = [region for region, answers in voices.items() if answers and region not in silent]
    if voices and silent and 2 * len(left) <= len(voices):
        yield f"Without it etcd has no majority (only {', '.join(left) or 'nobody'} is left)."
    apps = [one for one in formation.machines if one.role == "app"]
    serving = [one for one in apps if one.running and not one.cordoned]
    if serving and gone.issuperset(one.machine for one in serving):
        yield "Nothing would serve users."
