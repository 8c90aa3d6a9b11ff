"""Carries out what was planned for the duty of machines, and sees that it is so."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from viral_engine.clock import NotYet, wait_until
from viral_engine.errors import WaitTimeoutError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import MachineState
from viral_engine.operations.draining import drained
from viral_engine.operations.duty import Act, DutyPlan, Task
from viral_engine.operations.formation import Attendance, Formation
from viral_engine.operations.observe import find_machines
from viral_engine.operations.progress import Progress, step
from viral_engine.operations.rebuild_etcd import ETCD_ROLES, setting_missed, with_setting

STOPPED_WITHIN = timedelta(seconds=330)
HEALTHY_WITHIN = timedelta(seconds=120)
POLL = timedelta(milliseconds=500)


@dataclass(frozen=True, slots=True)
class DutyDone:
    """What is true afterwards."""

    target: str
    act: Act
    machines: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """The outcome for programs."""
        return {"target": self.target, "machines": list(self.machines)}

    def sentence(self) -> str:
        """The outcome for people."""
        done = {Act.CORDON: "cordoned", Act.UNCORDON: "reached again", Act.DRAIN: "drained",
                Act.STOP: "cordoned and stopped", Act.START: "started and healthy"}[self.act]  # fmt: skip
        count = len(self.machines)
        if not count:
            return f"{self.target} was {done} already"
        return f"{self.target}: {count} machine{'s' if count > 1 else ''} {done}"


async def change_duty(
    client: FlyClient,
    formation: Formation,  # noqa: ARG001 - the shape of every operation
    plan: DutyPlan,
    progress: Progress,
) -> DutyDone:
    """Do what was planned, stage by stage; raises ViralError where it is not so in the end."""
    await do_stages(client, plan.stages, progress, must_drain=plan.act is Act.DRAIN)
    changed = dict.fromkeys(task.of.machine for stage in plan.stages for task in stage)
    return DutyDone(plan.target, plan.act, tuple(changed))


async def do_stages(
    client: FlyClient,
    stages: tuple[tuple[Task, ...], ...],
    progress: Progress,
    *,
    must_drain: bool = False,
) -> None:
    """Do tasks stage by stage, those of one stage at once; raises ViralError for the first failure.

    With ``must_drain`` a connection that does not end in time is one.
    """
    for stage in stages:
        await asyncio.gather(
            *(_do(client, task, progress, must_drain=must_drain) for task in stage)
        )


async def _do(client: FlyClient, task: Task, progress: Progress, *, must_drain: bool) -> None:
    one = task.of
    with step(progress, task.sentence):
        match task.act:
            case Act.CORDON:
                await client.cordon_machine(one.app, one.machine)
            case Act.UNCORDON:
                await client.uncordon_machine(one.app, one.machine)
            case Act.DRAIN:
                await _drain(client, one, progress, must=must_drain)
            case Act.STOP:
                await client.stop_machine(one.app, one.machine)
                await client.wait_for(
                    one.app, one.machine, MachineState.STOPPED, timeout=STOPPED_WITHIN
                )
            case Act.START:
                await _start(client, one)


async def _drain(client: FlyClient, one: Attendance, progress: Progress, *, must: bool) -> None:
    """Wait for the last connection; a machine that is stopped next waits for its requests again."""
    try:
        await drained(client, one, one.name)
    except WaitTimeoutError as error:
        if must:
            raise
        progress.seen("drain", error.message)


async def _start(client: FlyClient, one: Attendance) -> None:
    """Start a machine; one of etcd's learns first whether etcd was rebuilt while it was away."""
    machine = await client.get_machine(one.app, one.machine)
    missed = None
    if one.role in ETCD_ROLES:
        others = [f.machine for f in await find_machines(client) if f.machine.role in ETCD_ROLES]
        missed = setting_missed(machine, others)
    if missed is not None:
        await client.update_machine(one.app, one.machine, with_setting(machine.config, missed))
    else:
        await client.start_machine(one.app, one.machine)

    async def healthy() -> bool | NotYet:
        now = await client.get_machine(one.app, one.machine)
        return now.healthy or NotYet(
            f"it is {now.state}"
            + "".join(f" ({c.name}: {c.output})" for c in now.checks if c.status != "passing")
        )

    await wait_until(
        healthy, timeout=HEALTHY_WITHIN, interval=POLL,
        waiting_for=f"{one.name} to be healthy",
    )  # fmt: skip
