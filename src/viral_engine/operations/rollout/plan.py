"""The steps of a rollout, and of its undoing, over what was found: pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from viral_engine.errors import MisuseError, RefusedError
from viral_engine.fly.model import Machine, MachineConfig
from viral_engine.operations.deploy.machines import RUNS
from viral_engine.operations.rollout.judge import Before
from viral_engine.operations.rollout.version import Mark, Strategy, Version

GUEST = "-new"
"""What the name of a machine beside an old one ends with."""

GLANCE_S = 5.0
"""Seconds for which a machine is watched before the next of its wave follows; a bake comes in the end."""

Waves = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Member:
    """An app machine as it was found; ``runs`` is whether it is meant to, as far as that is known."""

    name: str
    region: str
    runs: bool
    cordoned: bool
    config: MachineConfig = field(repr=False)
    mark: Mark | None = None

    @classmethod
    def of(cls, machine: Machine) -> Member:
        """Return what a rollout has to know of a machine; what crashed since it began still runs."""
        mark = Mark.read(machine.config)
        runs = machine.state in RUNS if mark is None else mark.ran
        return cls(machine.name, machine.region, runs, machine.cordoned, machine.config, mark)

    @property
    def before(self) -> Before:
        """What it answered with the version that it had."""
        return self.mark.before if self.mark else Before()

    @property
    def guest(self) -> bool:
        """Whether a rollout made it, for the time of a bake."""
        return self.mark is not None and self.mark.guest

    @property
    def serves(self) -> bool:
        """Whether users reach it, or would if no rollout had begun."""
        return self.mark.served if self.mark else self.runs and not self.cordoned


@dataclass(frozen=True, slots=True)
class Fleet:
    """The app machines of a deployment, and the region of the primary."""

    members: tuple[Member, ...]
    primary_region: str

    @property
    def regions(self) -> tuple[str, ...]:
        """Where there are any, sorted."""
        return tuple(sorted({one.region for one in self.members}))


@dataclass(frozen=True, slots=True)
class Options:
    """How it is rolled out; ``bake_s`` seconds for each wave, ``waves`` None for the usual ones."""

    strategy: Strategy = Strategy.ROLLING
    waves: Waves | None = None
    bake_s: float = 60.0


class Act(StrEnum):
    """What can be done in a step."""

    MIGRATE = "migrate"
    RENEW = "renew"
    """Take machines out of reach, let their requests end, and start them with the version."""
    ADD = "add"
    """Start machines with the version beside these, out of reach."""
    WATCH = "watch"
    """Let users reach ``opens`` and no longer ``closes``, and judge what all of it answers."""
    OPEN = "open"
    RETIRE = "retire"
    PASS = "pass"  # noqa: S105 - a wave that is passed
    CLOSE = "close"
    RESTORE = "restore"
    """As RENEW, to what was there before."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step; ``names`` are the machines that it is about, ``decides`` whether a bake ends a wave."""

    act: Act
    wave: tuple[str, ...]
    names: tuple[str, ...] = ()
    opens: tuple[str, ...] = ()
    closes: tuple[str, ...] = ()
    seconds: float = 0.0
    decides: bool = True

    @property
    def said(self) -> bool:
        """Whether people see it in a plan."""
        return self.act is not Act.PASS

    @property
    def sentence(self) -> str:
        """The step, for people."""
        words = _WORDS[self.act]
        if self.act is Act.WATCH and not self.decides:
            words = "Let users reach {opens}, and watch {seconds:g} s"
        elif self.closes:
            words = "Lead users of {where} to {names} alone, and bake {seconds:g} s"
        elif self.act is Act.WATCH and not self.opens:
            words = "Bake {names} anew, {seconds:g} s"
        return words.format(
            names=", ".join(self.names), opens=", ".join(self.opens), where=", ".join(self.wave),
            seconds=self.seconds,
        )  # fmt: skip


_WORDS = {
    Act.MIGRATE: "Migrate the database",
    Act.RENEW: "Drain {names} and start with the new version",
    Act.ADD: "Start {names} beside the old, out of users' reach",
    Act.WATCH: "Let users reach {opens}, and bake {seconds:g} s",
    Act.OPEN: "Let users reach {names}",
    Act.RETIRE: "Drain and destroy {names}",
    Act.CLOSE: "Take {names} out of users' reach",
    Act.RESTORE: "Drain {names} and start with the old version",
    Act.PASS: "Be done with {where}",
}


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """The steps of all waves in their order."""

    version: str
    strategy: Strategy
    waves: Waves
    stages: tuple[Step, ...]
    warnings: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps, a sentence each."""
        return tuple(step.sentence for step in self.stages if step.said)

    def facts(self) -> dict[str, Any]:
        """The plan for programs."""
        return {"version": self.version, "strategy": self.strategy.value,
                "waves": [list(wave) for wave in self.waves], "steps": list(self.steps),
                "warnings": list(self.warnings)}  # fmt: skip


def parse_waves(text: str) -> Waves:
    """Read ``iad / lhr,nrt``; raises MisuseError for a wave without a region, or a region twice."""
    waves = tuple(
        tuple(code.strip() for code in wave.split(",") if code.strip()) for wave in text.split("/")
    )
    codes = [code for wave in waves for code in wave]
    if not all(waves) or len(set(codes)) != len(codes):
        raise MisuseError(
            f"{text!r} are no waves: each has a region, and no region is named twice.",
            suggestion='Write for example --waves "iad / lhr,nrt".',
        )
    return waves


def plan_rollout(
    fleet: Fleet, version: Version, options: Options, *, migrates: bool
) -> RolloutPlan:
    """Decide the steps to a version from whatever was found; raises MisuseError or RefusedError.

    A wave that has it is skipped, and one that was begun is gone on with. ``migrates`` says whether
    this version of the service brings migrations.
    """
    _refuse_other(fleet, version)
    begun = [one.mark for one in fleet.members if one.mark is not None]
    strategy = begun[0].strategy if begun else options.strategy
    _refuse_nobody(fleet, strategy)
    waves = waves_of(fleet, options.waves)
    stages: list[Step] = []
    for number, wave in enumerate(waves):
        mine = [one for code in wave for one in fleet.members if one.region == code]
        if all(version.runs_on(one.config) and one.mark is None for one in mine):
            continue
        alone = strategy is Strategy.CANARY and number == 0
        if strategy is Strategy.BLUEGREEN:
            stages += _beside(wave, mine, version, options.bake_s)
        else:
            stages += _in_place(wave, mine, version, options.bake_s, canary=alone)
    fresh = not any(version.runs_on(one.config) for one in fleet.members)
    if stages and migrates and fresh:
        stages.insert(0, Step(Act.MIGRATE, ()))
    begun_otherwise = f"A {strategy} rollout was begun, and is gone on with as such."
    warnings = (begun_otherwise,) if strategy is not options.strategy else ()
    return RolloutPlan(version.sentence, strategy, waves, tuple(stages), warnings)


def plan_back(fleet: Fleet, wave: Sequence[str] | None = None) -> tuple[Step, ...]:
    """Decide the steps that undo what was begun and not passed, in a wave or everywhere.

    Who still has the old version serves again first; then nobody is led to the new one any more.
    """
    mine = [m for m in fleet.members if m.mark and (wave is None or m.region in wave)]
    regions = tuple(wave or sorted({one.region for one in mine}))
    new = [m for m in mine if m.mark and m.mark.to.runs_on(m.config)]
    old = [m for m in mine if m not in new]
    others = [m for m in fleet.members if m.serves and m not in new]
    renewed, guests = [m for m in new if not m.guest], [m for m in mine if m.guest]
    # Where nobody else serves they go one by one, and what is ill serves until its turn comes.
    groups = [renewed] if others else [[one] for one in renewed]
    steps = [
        Step(Act.OPEN, regions, _names(m for m in old if m.cordoned and m.serves)),
        Step(Act.CLOSE, regions, _names(m for m in new if not m.cordoned) if others else ()),
        *(
            step
            for group in groups
            for step in (
                Step(Act.RESTORE, regions, _names(group)),
                Step(Act.OPEN, regions, _names(m for m in group if m.mark and m.mark.served)),
            )
        ),
        Step(Act.RETIRE, regions, _names(guests)),
        Step(Act.PASS, regions, _names(m for m in mine if not m.guest)),
    ]
    return tuple(step for step in steps if step.names)


def waves_of(fleet: Fleet, said: Waves | None) -> Waves:
    """Each region alone and the primary's last, unless somebody said otherwise; raises MisuseError."""
    if said is None:
        order = sorted(fleet.regions, key=lambda code: code == fleet.primary_region)
        return tuple((code,) for code in order)
    named = {code for wave in said for code in wave}
    if named != set(fleet.regions):
        odd = sorted(named.symmetric_difference(fleet.regions))
        raise MisuseError(
            f"The waves must name every region with app machines once; look at: {', '.join(odd)}.",
            suggestion=f"There are app machines in: {', '.join(fleet.regions)}.",
        )
    return said


def _in_place(
    wave: tuple[str, ...], mine: list[Member], version: Version, bake_s: float, *, canary: bool
) -> Iterator[Step]:
    """One machine after the other; a canary bakes alone before the rest follows."""
    idle = [m for m in mine if not m.serves and not version.runs_on(m.config)]
    serving = [m for m in mine if m.serves]
    done = [m for m in serving if version.runs_on(m.config) and not m.cordoned]
    todo = [m for m in serving if m not in done]
    if idle:
        yield Step(Act.RENEW, wave, _names(idle))
    for number, one in enumerate(todo, start=1):
        last, first = number == len(todo), canary and number == 1 and not done
        bakes = last or first
        yield Step(Act.RENEW, wave, (one.name,))
        yield Step(
            Act.WATCH, wave, _names([*done, *todo[:number]]), opens=(one.name,),
            seconds=bake_s if bakes else min(GLANCE_S, bake_s), decides=bakes,
        )  # fmt: skip
    if done and not todo:
        yield Step(Act.WATCH, wave, _names(done), seconds=bake_s)
    yield Step(Act.PASS, wave, _names(mine))


def _beside(
    wave: tuple[str, ...], mine: list[Member], version: Version, bake_s: float
) -> Iterator[Step]:
    """New machines beside the old bake; then the old ones get the version, and the guests go."""
    members = [m for m in mine if not m.guest]
    serving, idle = [m for m in members if m.serves], [m for m in members if not m.serves]
    guests = tuple(f"{one.name}{GUEST}" for one in serving)
    baked = any(version.runs_on(one.config) and one.mark for one in members)
    if not baked and guests:
        yield Step(Act.ADD, wave, guests)
        glance = min(GLANCE_S, bake_s)
        yield Step(Act.WATCH, wave, guests, opens=guests, seconds=glance, decides=False)
        yield Step(Act.WATCH, wave, guests, closes=_names(serving), seconds=bake_s)
    todo = [m for m in serving if not version.runs_on(m.config) or m.cordoned]
    renewed = [m for m in (*todo, *idle) if not version.runs_on(m.config) or m.cordoned]
    if renewed:
        yield Step(Act.RENEW, wave, _names(renewed))
    if todo:
        yield Step(Act.OPEN, wave, _names(todo))
    left = guests if not baked else _names(m for m in mine if m.guest)
    if left:
        yield Step(Act.RETIRE, wave, left)
    yield Step(Act.PASS, wave, _names(members))


def _refuse_other(fleet: Fleet, version: Version) -> None:
    """Raise RefusedError where there is no machine, or another rollout is under way."""
    if not fleet.members:
        raise RefusedError("There is no app machine.", suggestion="Make them: viral deploy.")
    for one in fleet.members:
        if one.mark is not None and one.mark.to != version:
            raise RefusedError(
                f"A rollout of {one.mark.to.sentence} is under way: {one.name} is a part of it. "
                "Nothing was changed.",
                suggestion="Go on with it by typing the same again, or undo it: viral rollout --back",
            )


def _refuse_nobody(fleet: Fleet, strategy: Strategy) -> None:
    """Raise RefusedError where nobody would serve while the only machine is renewed."""
    serving = [one for one in fleet.members if one.serves]
    if len(serving) == 1 and strategy is not Strategy.BLUEGREEN:
        raise RefusedError(
            f"Nobody would serve while {serving[0].name} starts anew. Nothing was changed.",
            suggestion="Start the new version beside it: --strategy bluegreen.",
        )


def _names(members: Iterable[Member]) -> tuple[str, ...]:
    return tuple(one.name for one in members)
