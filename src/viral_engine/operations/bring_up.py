"""Makes a deployment run on a globe: a deploy, and then users' own view of whether it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from viral_engine.errors import MachineFailedError, WaitTimeoutError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import Machine
from viral_engine.operations.blueprint import Blueprint, places
from viral_engine.operations.deploy import Deploy, Found
from viral_engine.operations.deploy.databases import PatroniDatabases
from viral_engine.operations.operator_lock import Operator
from viral_engine.operations.progress import Progress, step
from viral_engine.operations.serving import wait_until_aware, wait_until_routed
from viral_engine.topology.model import BUNDLED_APP, Provider

MIGRATED_WITHIN = timedelta(seconds=60)
PROTECTED_WITHIN = timedelta(seconds=20)


@dataclass(eq=False, slots=True)
class BringUp:
    """One run; ``edges`` are the addresses, by region, at which users are served."""

    client: FlyClient
    blueprint: Blueprint
    operator: Operator
    progress: Progress
    edges: Mapping[str, str] = field(default_factory=dict)
    primary_region: str = ""
    """Where the primary is, once one was found: the declared region, unless it moved."""

    async def run(self) -> list[Machine]:
        """Do all steps and return the machines, all healthy; raises ViralError otherwise."""
        databases = PatroniDatabases(self.client, self.progress)
        deploy = Deploy(
            self.client, self.blueprint, databases, self.operator, self.progress, edges=self.edges
        )
        found = await deploy.run()
        self.primary_region = found.primary_region or self.blueprint.deployment.primary_region
        machines = _declared(self.blueprint, found)
        serving = [m for m in machines if m.role == "app" and not m.cordoned]
        if self._bundled and not deploy.migrated:
            with step(self.progress, "Migrate the database"):
                await self._migrate(next(m for m in serving if m.region == self.primary_region))
        with step(self.progress, "Wait until every edge serves users"):
            await self._wait_until_serving(serving)
        if self._owns_databases and sum(m.role == "database" for m in machines) > 1:
            with step(self.progress, "Wait until another region confirms commits"):
                await self._wait_until_protected(databases)
        return machines

    @property
    def _owns_databases(self) -> bool:
        return self.blueprint.deployment.database.provider is Provider.VIRAL

    async def _wait_until_protected(self, databases: PatroniDatabases) -> None:
        """It serves already: where this takes longer that is told, and no failure."""
        try:
            await databases.until_well(within=PROTECTED_WITHIN)
        except WaitTimeoutError as error:
            self.progress.seen("databases", error.message)

    @property
    def _bundled(self) -> bool:
        return self.blueprint.deployment.service.app == BUNDLED_APP

    async def _migrate(self, machine: Machine) -> None:
        """Migrate with the code of this folder, which may be new under the name of an old image."""
        app, command = self.blueprint.deployment.app, ["viral", "node", "migrate"]
        result = await self.client.exec(app, machine.id, command, timeout=MIGRATED_WITHIN)
        if result.exit_code:
            said = (result.stderr or result.stdout).strip()
            raise MachineFailedError(f"The migration failed with {result.exit_code}: {said}")

    async def _wait_until_serving(self, serving: list[Machine]) -> None:
        path = self.blueprint.deployment.service.check.path
        await asyncio.gather(*(wait_until_routed(url, path) for url in self.edges.values()))
        if self.edges and self._bundled and self._owns_databases:
            await asyncio.gather(
                *(wait_until_aware(self.edges[machine.region], machine.id) for machine in serving)
            )


def _declared(blueprint: Blueprint, found: Found) -> list[Machine]:
    """The machines that are declared, in the order in which others need them."""
    machines = (found.machine(place.app, place.name) for place in places(blueprint.deployment))
    return [machine for machine in machines if machine is not None]
