"""Stops what runs in the order that keeps data quiet: apps, replicas, the primary, the rest."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from viral_engine.clock import NotYet, wait_until
from viral_engine.errors import LeaseHeldError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import Machine, MachineState
from viral_engine.operations.progress import Progress, step

STOPPED_WITHIN = timedelta(seconds=60)
LEASES_END_WITHIN = timedelta(seconds=20)


async def take_down(client: FlyClient, progress: Progress) -> None:
    """Stop every machine; the primary last among the databases, so that nothing fails over.

    One that does not stop in time keeps nobody else from it: its error is raised at the end.
    """
    machines = [
        (app.name, machine)
        for app in await client.list_apps()
        for machine in await client.list_machines(app.name)
        if machine.state in (MachineState.STARTED, MachineState.STARTING)
    ]
    databases = [m for m in machines if m[1].role == "database"]
    last = _primaries([machine for _, machine in databases])
    failures: list[BaseException] = []
    for name, stage in (
        ("Stop app machines", [m for m in machines if m[1].role in ("app", "worker")]),
        ("Stop replicas", [m for m in databases if m[1].id not in last]),
        ("Stop the primary", [m for m in databases if m[1].id in last]),
        ("Stop witness and caches", [m for m in machines if m[1].role in ("witness", "cache")]),
    ):
        if stage:
            with step(progress, name):
                stopping = (_stop(client, app, machine) for app, machine in stage)
                results = await asyncio.gather(*stopping, return_exceptions=True)
                failures += [result for result in results if isinstance(result, BaseException)]
    if failures:
        raise failures[0]


async def _stop(client: FlyClient, app: str, machine: Machine) -> None:
    """Stop a machine, also one that a deploy which died a moment ago had leased."""

    async def asked() -> bool | NotYet:
        try:
            await client.stop_machine(app, machine.id)
        except LeaseHeldError as error:
            return NotYet(error.message)
        return True

    await wait_until(
        asked, timeout=LEASES_END_WITHIN, waiting_for=f"the lease of {machine.name} to end"
    )
    await client.wait_for(
        app, machine.id, MachineState.STOPPED, timeout=STOPPED_WITHIN, version=machine.instance_id
    )


def _primaries(databases: list[Machine]) -> set[str]:
    """The database that serves as primary; while none does yet, the one that is meant to.

    Stopped before its standby it would hand the primary over on its way out.
    """
    serving = {
        m.id
        for m in databases
        if any(c.status == "passing" for c in m.checks if c.name.startswith("servicecheck"))
    }
    meant = {m.id for m in databases if m.config.env.get("PRIMARY_REGION") == m.region}
    return serving or meant
