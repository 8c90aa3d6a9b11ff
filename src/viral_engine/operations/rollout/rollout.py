"""Carries a rollout out, step by step, and goes back where a wave is ruled so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from viral_engine.errors import (
    MachineFailedError,
    OperationError,
    RefusedError,
    WaitTimeoutError,
)
from viral_engine.fly.client import FlyClient
from viral_engine.fly.leases import Lease
from viral_engine.operations.blueprint import Blueprint, apps
from viral_engine.operations.deploy import observe
from viral_engine.operations.deploy.databases import Databases
from viral_engine.operations.deploy.lock import deploying
from viral_engine.operations.operator_lock import Operator
from viral_engine.operations.progress import Progress, step
from viral_engine.operations.rollout.judge import Before, Objective, Ruling, Verdict
from viral_engine.operations.rollout.plan import (
    Act,
    Fleet,
    Member,
    Options,
    RolloutPlan,
    Step,
    plan_back,
    plan_rollout,
)
from viral_engine.operations.rollout.version import Version
from viral_engine.operations.rollout.watching import Inside, Watch
from viral_engine.operations.rollout.work import Work
from viral_engine.topology.model import BUNDLED_APP

__all__ = ["Rollout"]

COMES_UP = (Act.RENEW, Act.ADD, Act.WATCH)
"""Steps in which a machine that does not come up speaks against the version."""


@dataclass(eq=False, slots=True)
class Rollout:
    """One rollout; ``rulings`` are what waves were ruled, the last one what ended it."""

    client: FlyClient
    blueprint: Blueprint
    databases: Databases
    operator: Operator
    progress: Progress
    version: Version
    options: Options = field(default_factory=Options)
    objective: Objective = field(default_factory=Objective)
    edges: Mapping[str, str] = field(default_factory=dict)
    """By region, where users enter: a machine that serves again is seen from there."""
    quiet_is_well: bool = False
    rulings: list[tuple[tuple[str, ...], Ruling]] = field(default_factory=list)

    async def fleet(self) -> Fleet:
        """The app machines as they are now."""
        deployment = self.blueprint.deployment
        found = await observe(self.client, apps(deployment))
        machines = [m for m in found.app(deployment.app).machines if m.role == "app"]
        primary = found.primary_region or deployment.primary_region
        return Fleet(tuple(map(Member.of, machines)), primary)

    async def plan(self) -> RolloutPlan:
        """Observe, and decide what is to do; raises MisuseError or RefusedError."""
        bundled = self.blueprint.deployment.service.app == BUNDLED_APP
        migrates = bundled and self.version.image is not None
        return plan_rollout(await self.fleet(), self.version, self.options, migrates=migrates)

    async def run(self) -> RolloutPlan:
        """Bring the version to every wave, or undo the wave that it is bad in.

        Raises OperationError where a wave was undone, or nothing is known of it, with the next
        step. Whatever ends it, the same call again goes on from there.
        """
        if not (plan := await self.plan()).stages:
            return plan
        async with self._alone() as lock:
            plan = await self.plan()
            work = self._work(plan)
            for one in plan.stages:
                lock.check()
                ruling = await self._ruled(work, one)
                if ruling.verdict is Verdict.BACK:
                    await self._undo(work, plan_back(await self.fleet(), one.wave))
                    raise _undone(plan, one.wave, ruling)
                if ruling.verdict is Verdict.UNKNOWN:
                    raise _unknown(plan, one.wave, ruling)
        return plan

    async def steps_back(self) -> tuple[Step, ...]:
        """Decide what ``back`` would do; raises RefusedError where there is nothing to undo."""
        if not (steps := plan_back(await self.fleet())):
            raise RefusedError(
                "No rollout is under way. Nothing was changed.",
                suggestion="A version that passed is left by rolling out the one before it.",
            )
        return steps

    async def back(self) -> tuple[Step, ...]:
        """Undo what was begun and not passed; raises RefusedError where there is nothing."""
        await self.steps_back()
        async with self._alone():
            steps = await self.steps_back()
            await self._undo(self._work(None), steps)
        return steps

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[Lease]:
        async with (
            deploying(self.client, self.blueprint, self.operator) as lock,
            self.databases.locked(self.operator),
        ):
            yield lock

    def _work(self, plan: RolloutPlan | None) -> Work:
        strategy = self.options.strategy if plan is None else plan.strategy
        return Work(
            self.client, self.blueprint, self.operator, self.progress, self.version, strategy,
            self.edges,
        )  # fmt: skip

    async def _undo(self, work: Work, steps: tuple[Step, ...]) -> None:
        for one in steps:
            with step(self.progress, one.sentence):
                await work.do(one)

    async def _ruled(self, work: Work, one: Step) -> Ruling:
        """Do a step of the way there, and say whether the next may follow."""
        with step(self.progress, one.sentence):
            try:
                if one.act is not Act.WATCH:
                    await work.do(one)
                    return Ruling(Verdict.GO, "")
                ruling = await self._baked(work, one)
            except (MachineFailedError, WaitTimeoutError) as error:
                if one.act not in COMES_UP:
                    raise
                ruling = Ruling(Verdict.BACK, error.message.rstrip("."))
            self.progress.seen(one.sentence, f"{ruling.verdict}: {ruling.reason}")
        if one.decides or ruling.verdict is not Verdict.GO:
            self.rulings.append((one.wave, ruling))
        return ruling

    async def _baked(self, work: Work, one: Step) -> Ruling:
        machines = {name: await work.machine(name) for name in one.names}
        inside = {name: Inside(work.app, machine.id) for name, machine in machines.items()}
        old = sum((Member.of(m).before for m in machines.values()), Before())
        watch = Watch(self.client, inside, old, self.objective, work.ailment)

        async def lead() -> None:
            await asyncio.gather(*map(work.open, one.opens))
            await asyncio.gather(*map(work.close, one.closes))

        async with watch.begun():
            return await watch.ruled(
                lead(), one.seconds, decides=one.decides, quiet_is_well=self.quiet_is_well
            )


def _undone(plan: RolloutPlan, wave: tuple[str, ...], ruling: Ruling) -> OperationError:
    return OperationError(
        f"{', '.join(wave)} was rolled back: {ruling.reason}.{_later(plan, wave)}",
        suggestion=f"See why: viral logs --region {wave[0]}. Then roll out what is mended.",
    )


def _unknown(plan: RolloutPlan, wave: tuple[str, ...], ruling: Ruling) -> OperationError:
    return OperationError(
        f"Halted in {', '.join(wave)}, which has the new version: nobody knows whether it is good, "
        f"since {ruling.reason}.{_later(plan, wave)}",
        suggestion="Typed again, it bakes anew, and with --allow-quiet silence counts as good. "
        "Undo it with: viral rollout --back",
    )


def _later(plan: RolloutPlan, wave: tuple[str, ...]) -> str:
    later = [code for one in plan.waves[plan.waves.index(wave) + 1 :] for code in one]
    return f" Not touched: {', '.join(later)}." if later else ""
