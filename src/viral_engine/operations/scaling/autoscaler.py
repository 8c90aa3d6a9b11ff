"""Looks at the load, decides for each region, and has it made so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from viral_engine.errors import OperationError, PlatformError, ViralError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import Machine, MachineState
from viral_engine.operations.blueprint import Blueprint
from viral_engine.operations.control import ctl
from viral_engine.operations.deploy.machines import RUNS
from viral_engine.operations.operator_lock import Operator
from viral_engine.operations.scaling.apply import Quiet, make_so
from viral_engine.operations.scaling.decide import Decision, Limits, Policy, decide
from viral_engine.operations.scaling.load import Reading, Sample, measured
from viral_engine.operations.scaling.wanted import with_exactly
from viral_engine.topology.model import Strategy

__all__ = ["Autoscaler", "Happening", "Look"]

TOLD_WITHIN = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that the autoscaler saw or did; ``event`` is its kind, for programs."""

    event: str
    sentence: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Look:
    """The app machines at one moment, and what those told that run; None for one that did not."""

    at: float
    machines: tuple[Machine, ...] = ()
    readings: Mapping[str, Reading | None] = field(default_factory=dict)

    def serving(self, region: str) -> tuple[Machine, ...]:
        """The machines of a region that users are led to, or will be in a moment."""
        return tuple(m for m in self._of(region) if m.state in RUNS and not m.cordoned)

    def held(self, region: str) -> int:
        """How many machines of a region are there and serve nobody: cordoned, or stopped."""
        return len(self._of(region)) - len(self.serving(region))

    def _of(self, region: str) -> tuple[Machine, ...]:
        return tuple(m for m in self.machines if m.region == region)


@dataclass(frozen=True, slots=True)
class Told:
    """A machine that is asked from inside."""

    app: str
    machine: str


@dataclass(eq=False, slots=True)
class Autoscaler:
    """Keeps the app machines of each region in step with its load; owns what was measured.

    Nothing is remembered beyond its life: a new one watches for ``policy.low_for_s`` before it takes
    anything away. Regions that stand by are left alone.
    """

    client: FlyClient
    blueprint: Blueprint
    policy: Policy
    operator: Operator
    tell: Callable[[Happening], None]
    edges: Mapping[str, str] = field(default_factory=dict)
    dry_run: bool = False
    now: Callable[[], float] = time.monotonic
    _last: Look | None = None
    _readings: dict[str, Reading] = field(default_factory=dict)
    _history: dict[str, list[Sample]] = field(default_factory=dict)
    _changed_at: dict[str, float] = field(default_factory=dict)

    async def run(self, interval: timedelta, *, once: bool = False) -> None:
        """Look, and then look and decide at every interval: until it is cancelled, or once.

        A platform that does not answer is told and asked again; with ``once`` it is the end.
        """
        while True:
            first = self._last is None
            try:
                await self.turn()
            except PlatformError as error:
                if once:
                    raise
                facts = {"error": error.message}
                self.tell(Happening("blind", f"nothing was seen: {error.message}", facts))
            else:
                if once and not first:
                    return
            await asyncio.sleep(interval.total_seconds())

    async def turn(self) -> None:
        """Look, and from the second time on decide: more machines are made before others go."""
        before, look = self._last, await self._look()
        decisions = {} if before is None else self._decisions(look, over_s=look.at - before.at)
        self._last = look
        self._readings |= {name: one for name, one in look.readings.items() if one is not None}
        more = {r: d for r, d in decisions.items() if d.target > len(look.serving(r))}
        fewer = {r: d for r, d in decisions.items() if d.target < len(look.serving(r))}
        for part in (more, fewer):
            if part and not self.dry_run:
                await self._apply(part, look)

    async def _look(self) -> Look:
        at = self.now()
        listed = await self.client.list_machines(self.blueprint.deployment.app)
        machines = tuple(m for m in listed if m.role == "app")
        running = [m for m in machines if m.state is MachineState.STARTED]
        told = await asyncio.gather(*map(self._ask, running))
        return Look(at, machines, {m.id: one for m, one in zip(running, told, strict=True)})

    async def _ask(self, machine: Machine) -> Reading | None:
        inside = Told(self.blueprint.deployment.app, machine.id)
        try:
            said = await ctl(self.client, inside, "load", timeout=TOLD_WITHIN)
            return Reading.from_facts(machine.region, said)
        except (PlatformError, OperationError, KeyError, TypeError, ValueError):
            return None  # what it serves is not known, which is not nothing

    def _decisions(self, look: Look, *, over_s: float) -> dict[str, Decision]:
        passive = self.blueprint.deployment.strategy is Strategy.ACTIVE_PASSIVE
        found = {}
        for plan in self.blueprint.deployment.regions:
            serving = look.serving(plan.code)
            if not serving and passive:
                continue
            sample = measured(
                plan.code, [m.id for m in serving], self._readings, look.readings,
                at=look.at, over_s=over_s,
            )  # fmt: skip
            found[plan.code] = decide(
                self._kept(plan.code, sample), len(serving), self._limits(plan.code), self.policy,
                now=look.at, changed_at=self._changed_at.get(plan.code),
            )  # fmt: skip
            self._tell_load(plan.code, sample, len(serving), found[plan.code])
        return found

    def _kept(self, region: str, sample: Sample) -> list[Sample]:
        """Keep a sample, and forget those that no decision needs any more."""
        history = self._history.setdefault(region, [])
        history.append(sample)
        while len(history) > 1 and history[1].since <= sample.at - self.policy.low_for_s:
            del history[0]
        return history

    def _limits(self, region: str) -> Limits:
        plan = self.blueprint.deployment.plan(region)
        return Limits(plan.min, plan.max, self.blueprint.deployment.service.soft_limit)

    async def _apply(self, decisions: Mapping[str, Decision], look: Look) -> None:
        """Have numbers made so; what did not come about is looked at anew after the cooldown."""
        numbers = {
            region: min(found.target + look.held(region), self._limits(region).ceiling)
            for region, found in decisions.items()
        }
        deployment = with_exactly(self.blueprint.deployment, numbers)
        began, where = self.now(), ", ".join(sorted(numbers))
        try:
            changes = await make_so(
                self.client, replace(self.blueprint, deployment=deployment), numbers,
                operator=self.operator, progress=Quiet(), edges=self.edges,
            )  # fmt: skip
        except ViralError as error:
            facts = {"regions": sorted(numbers), "error": error.message}
            self.tell(Happening("failed", f"{where}: {error.message}", facts))
        else:
            took = round(self.now() - began, 1)
            done = {"regions": sorted(numbers), "changes": changes, "seconds": took}
            self.tell(Happening("scaled", f"{where}: done in {took} s", done))
        self._changed_at |= dict.fromkeys(numbers, self.now())

    def _tell_load(self, region: str, sample: Sample, running: int, found: Decision) -> None:
        facts = {
            "region": region, "load": round(sample.load, 2), "complete": sample.complete,
            "running": running, "target": found.target, "reason": found.reason,
        }  # fmt: skip
        changes = f"{running} → {found.target}" if found.target != running else f"{running}"
        event = "decided" if found.target != running else "load"
        self.tell(Happening(event, f"{region} {changes}: {found.reason}", facts))
