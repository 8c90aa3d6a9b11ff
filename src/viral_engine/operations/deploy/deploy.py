"""Carries a deployment out: observe, do the first stage of the plan, and observe again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta

from viral_engine.clock import NotYet, wait_until
from viral_engine.errors import (
    MachineFailedError,
    OperationError,
    PlatformError,
)
from viral_engine.fly.client import FlyClient
from viral_engine.fly.leases import Lease
from viral_engine.fly.model import Machine, MachineState
from viral_engine.operations.blueprint import Blueprint, apps
from viral_engine.operations.deploy.changes import (
    Change,
    CreateApp,
    HandOver,
    Migrate,
    OfMachine,
)
from viral_engine.operations.deploy.databases import Databases
from viral_engine.operations.deploy.diff import diff
from viral_engine.operations.deploy.found import Found, observe, serves_as_primary
from viral_engine.operations.deploy.lock import deploying
from viral_engine.operations.deploy.make import TRIES, Making, make, may_have_happened
from viral_engine.operations.deploy.plan import Plan, Stage, Until
from viral_engine.operations.deploy.scaling import of_scaling
from viral_engine.operations.operator_lock import Operator
from viral_engine.operations.progress import Progress, step
from viral_engine.operations.serving import wait_until_routed

PRIMARY_WITHIN = timedelta(seconds=120)
HEALTHY_WITHIN = timedelta(seconds=120)
POLL = timedelta(milliseconds=150)

BEGINS = ("launch", "start", "update")
"""Events of a machine after which its earlier ends say nothing."""

ROLES = ("database", "witness", "cache", "app")
"""Roles of machines that run for good."""


@dataclass(eq=False, slots=True)
class Deploy:
    """One deploy; ``found`` is what was seen last."""

    client: FlyClient
    blueprint: Blueprint
    databases: Databases
    operator: Operator
    progress: Progress
    org: str = "personal"
    edges: Mapping[str, str] = field(default_factory=dict)
    """By region, where users enter: an app machine that was updated is seen from there before the next."""
    scaling: frozenset[str] | None = None
    """Regions whose app machines alone are changed, in number and size; None: everything is."""
    found: Found = field(default_factory=Found)
    done: list[Change] = field(default_factory=list)
    _tries: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    @property
    def app_names(self) -> tuple[str, ...]:
        """The platform's apps of this deployment."""
        return apps(self.blueprint.deployment)

    async def plan(self) -> Plan:
        """Observe, and decide what is to do."""
        self.found = await observe(self.client, self.app_names)
        plan = diff(self.blueprint, self.found)
        return plan if self.scaling is None else of_scaling(plan, self.scaling)

    @property
    def migrated(self) -> bool:
        """Whether this deploy has migrated the database."""
        return any(isinstance(change, Migrate) for change in self.done)

    async def run(self) -> Found:
        """Make it so and see that it is; raises ViralError with the next step otherwise.

        Whatever ends it, the same call again goes on from there.
        """
        plan = await self.plan()
        making = Making(self.client, self.operator, self.org)
        while plan.stages and all(isinstance(one, CreateApp) for one in plan.stages[0].changes):
            await self._do(making, plan.stages[0])
            plan = await self.plan()
        if not plan.stages:
            return await self._verified()
        async with AsyncExitStack() as stack:
            lock = await stack.enter_async_context(
                deploying(self.client, self.blueprint, self.operator)
            )
            await stack.enter_async_context(self.databases.locked(self.operator))
            return await self._converge(making, lock)

    async def _converge(self, making: Making, lock: Lease) -> Found:
        home = self.found.primary_region
        while (plan := await self.plan()).stages:
            lock.check()
            await self._do(making, plan.stages[0])
        found = await self._verified()
        if home and any(isinstance(change, HandOver) for change in self.done):
            with step(self.progress, f"Hand the primary back to {home}"):
                await self.databases.hand_back(home)
        return found

    async def _verified(self) -> Found:
        with step(self.progress, "Wait until every machine is healthy"):
            await self._until_healthy(self._declared())
        return await observe(self.client, self.app_names)

    async def _do(self, making: Making, stage: Stage) -> None:
        """Do one stage; what may or may not have happened is found out by the next plan."""
        with step(self.progress, stage.title):
            if stage.until is Until.WELL and self._takes_away(stage):
                await self.databases.until_well()
            results = await asyncio.gather(
                *(self._make(making, change) for change in stage.changes), return_exceptions=True
            )
            failures = [result for result in results if isinstance(result, BaseException)]
            if failures:
                raise failures[0]
            if not all(results):
                return
            await self._wait(stage)
        if stage.until is Until.PRIMARY:
            with step(self.progress, "Wait for a primary"):
                await self._until_primary()

    def _takes_away(self, stage: Stage) -> bool:
        """Whether something that is healthy will be gone for a while."""
        names = {change.name for change in stage.changes if isinstance(change, OfMachine)}
        healthy = {machine.name for machine in self.found.machines if machine.healthy}
        return not names or bool(names & healthy)

    async def _make(self, making: Making, change: Change) -> bool:
        """Make a change and tell whether it surely was made; raises ViralError."""
        name = (change.kind, change.app, change.what)
        self._tries[name] += 1
        if self._tries[name] > TRIES:
            raise OperationError(
                f"{change.sentence}: it was done {TRIES} times and is not so ({change.reason}).",
                suggestion="Does somebody undo it? See: viral plan.",
            )
        try:
            if isinstance(change, HandOver):
                await self._hand_over(change.region)
            else:
                await make(making, change)
        except PlatformError as error:
            if self._tries[name] == TRIES or not may_have_happened(error):
                raise
            self.progress.seen(change.sentence, f"looked at anew: {error.message}")
            return False
        self.done.append(change)
        self.progress.seen(change.sentence, change.reason)
        return True

    async def _hand_over(self, region: str) -> None:
        """Have the primary leave, and wait until the platform, which plans go by, sees it."""
        await self.databases.hand_over(region)

        async def left() -> bool | NotYet:
            found = await observe(self.client, self.app_names)
            return found.primary_region not in (None, region) or NotYet(f"{found.primary_region}")

        await wait_until(
            left, timeout=PRIMARY_WITHIN, interval=POLL,
            waiting_for=f"the primary's service to leave {region}",
        )  # fmt: skip

    async def _wait(self, stage: Stage) -> None:
        names = {change.name for change in stage.changes if isinstance(change, OfMachine)}
        match stage.until:
            case Until.HEALTHY:
                await self._until_healthy(names)
                await self._until_reached(stage)
            case Until.WELL:
                await self._until_healthy(names)
                await self.databases.until_well()
            case Until.DONE | Until.PRIMARY:
                pass

    async def _until_reached(self, stage: Stage) -> None:
        """Wait until users reach the machines of a stage: edges hear of health a moment later."""
        path = self.blueprint.deployment.service.check.path
        for change in stage.changes:
            if isinstance(change, OfMachine) and change.region in self.edges:
                machine = await self.client.get_machine(change.app, change.machine)
                if not machine.cordoned:
                    await wait_until_routed(self.edges[change.region], path, machine=machine.id)

    def _declared(self) -> set[str]:
        """The machines that must be healthy in the end: those that are meant to run.

        Who scales answers for what was changed, and not for all others.
        """
        standby = {
            m.name
            for m in self.found.machines
            if m.cordoned and m.state is not MachineState.STARTED
        }
        declared = {m.name for m in self.found.machines if m.role in ROLES} - standby
        return declared if self.scaling is None else declared & {one.what for one in self.done}

    async def _until_primary(self) -> None:
        app = f"{self.blueprint.deployment.app}-db"

        async def primary() -> bool | NotYet:
            machines = await self.client.list_machines(app)
            refuse_failed(machines)
            return any(map(serves_as_primary, machines)) or NotYet(unhealthy(machines))

        await wait_until(
            primary, timeout=PRIMARY_WITHIN, waiting_for="a primary database", interval=POLL
        )

    async def _until_healthy(self, names: set[str]) -> None:
        async def healthy() -> bool | NotYet:
            lists = await asyncio.gather(*map(self.client.list_machines, self.app_names))
            machines = [m for found in lists for m in found if m.name in names]
            refuse_failed(machines)
            return all(m.healthy for m in machines) or NotYet(unhealthy(machines))

        await wait_until(
            healthy, timeout=HEALTHY_WITHIN, interval=POLL,
            waiting_for=f"{'every machine' if len(names) > 1 else ''.join(names)} to be healthy",
        )  # fmt: skip


def refuse_failed(machines: list[Machine]) -> None:
    """Raise MachineFailedError for a machine that does not stay up."""
    for machine in machines:
        newest = next((e.type for e in machine.events if e.type in {"exit", *BEGINS}), "")
        failed = machine.state is MachineState.FAILED
        if failed or (machine.state is MachineState.STOPPED and newest == "exit"):
            raise MachineFailedError(
                f"The machine {machine.name} ({machine.id}) does not stay up.",
                suggestion=f"Its output: viral logs --machine {machine.id}.",
                machine=machine.id,
            )


def unhealthy(machines: list[Machine]) -> str:
    """Say how the machines are that are not healthy."""
    return ", ".join(
        f"{machine.name} is {machine.state}"
        + "".join(f" ({c.name}: {c.output})" for c in machine.checks if c.status != "passing")
        for machine in machines
        if not machine.healthy
    )
