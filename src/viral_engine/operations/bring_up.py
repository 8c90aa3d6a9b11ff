"""Makes a deployment run on a platform: observe, ensure what is missing, wait, verify.

Every step can be repeated: what is there already is left alone, so that an interrupted run is
finished by the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from viral_engine.clock import NotYet, wait_until
from viral_engine.errors import MachineFailedError, NotFoundError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import Machine, MachineConfig, MachineState
from viral_engine.operations.blueprint import Addresses, Blueprint, Place, apps, places
from viral_engine.operations.progress import Progress, step
from viral_engine.operations.rebuild_etcd import carried_over
from viral_engine.operations.secrets import Secrets
from viral_engine.operations.serving import wait_until_aware, wait_until_routed
from viral_engine.topology.model import BUNDLED_APP, Deployment, Standby, Strategy

PRIMARY_WITHIN = timedelta(seconds=120)
HEALTHY_WITHIN = timedelta(seconds=120)
MIGRATED_WITHIN = timedelta(seconds=60)
POLL = timedelta(milliseconds=150)

VOLUME = "data"


@dataclass(eq=False, slots=True)
class BringUp:
    """One run; ``primary`` names, by region, the address that always leads to the primary."""

    client: FlyClient
    deployment: Deployment
    secrets: Secrets
    primary: Mapping[str, str]
    image: str
    app_folder: str
    extra_env: Mapping[str, str]
    progress: Progress
    edges: Mapping[str, str] = field(default_factory=dict)
    primary_region: str = ""
    """Where the primary is, once one was found: the declared region, unless it moved."""
    _machines: dict[str, Machine] = field(default_factory=dict)
    _volumes: dict[str, str] = field(default_factory=dict)

    async def run(self) -> list[Machine]:
        """Do all steps and return the machines, all healthy; raises ViralError otherwise."""
        wanted = places(self.deployment)
        data = [place for place in wanted if place.role != "app"]
        serving = [place for place in wanted if place.role == "app"]
        with step(self.progress, "Ensure apps and volumes"):
            await self._ensure_apps()
            await self._ensure_volumes(data)
        with step(self.progress, "Start databases, witness and caches"):
            await self._ensure_made(data)
            blueprint = self._blueprint()
            await self._ensure_running(blueprint, data)
        with step(self.progress, "Wait for a primary"):
            await self._wait_for_primary()
        with step(self.progress, "Start app machines"):
            await self._ensure_made(serving)
            waiting = self._standing_by(serving)
            active = [place for place in serving if place not in waiting]
            await self._ensure_duty(active, waiting)
            stopped = waiting if self.deployment.standby is Standby.STOPPED else []
            await self._ensure_stopped(blueprint, stopped)
            await self._ensure_running(blueprint, [p for p in serving if p not in stopped])
        if self.deployment.service.app == BUNDLED_APP:
            with step(self.progress, "Migrate the database"):
                await self._migrate(active[0])
        with step(self.progress, "Wait until every machine is healthy"):
            await self._wait_until_healthy(tuple(p for p in wanted if p not in stopped))
        with step(self.progress, "Wait until every edge serves users"):
            await self._wait_until_serving(active)
        return [self._machines[place.name] for place in wanted]

    async def _ensure_apps(self) -> None:
        for name in apps(self.deployment):
            try:
                await self.client.get_app(name)
            except NotFoundError:
                await self.client.create_app(name)

    async def _ensure_volumes(self, wanted: list[Place]) -> None:
        for app in sorted({place.app for place in wanted}):
            for volume in await self.client.list_volumes(app):
                self._volumes[volume.region] = volume.id
        for place in wanted:
            if place.volume_gb and place.region not in self._volumes:
                volume = await self.client.create_volume(
                    place.app, name=VOLUME, region=place.region, size_gb=place.volume_gb
                )
                self._volumes[place.region] = volume.id

    async def _ensure_made(self, wanted: list[Place]) -> None:
        """Give every machine its place and address, without starting it."""
        for app in sorted({place.app for place in wanted}):
            for machine in await self.client.list_machines(app):
                self._machines[machine.name] = machine
        for place in wanted:
            if place.name not in self._machines:
                self._machines[place.name] = await self.client.create_machine(
                    place.app,
                    name=place.name,
                    region=place.region,
                    config=MachineConfig(image=self.image),
                    launch=False,
                )

    def _blueprint(self) -> Blueprint:
        def by_region(role: str) -> dict[str, str]:
            return {
                place.region: self._machines[place.name].private_ip
                for place in places(self.deployment)
                if place.role == role
            }

        addresses = Addresses(
            by_region("database"), by_region("witness"), by_region("cache"), self.primary
        )
        return Blueprint(
            self.deployment, self.secrets, addresses, self.image, self.app_folder, self.extra_env
        )

    async def _ensure_running(self, blueprint: Blueprint, wanted: list[Place]) -> None:
        await asyncio.gather(*(self._ensure_one(blueprint, place) for place in wanted))

    def _standing_by(self, serving: list[Place]) -> list[Place]:
        """Who stands by: where one region serves, all that are not where the primary is now."""
        if self.deployment.strategy is Strategy.ACTIVE_ACTIVE:
            return []
        return [place for place in serving if place.region != self.primary_region]

    async def _ensure_duty(self, active: list[Place], waiting: list[Place]) -> None:
        """Cordon who stands by, before it is started; what an operator cordoned stays so else."""
        for place in waiting:
            await self.client.cordon_machine(place.app, self._machines[place.name].id)
        if self.deployment.strategy is Strategy.ACTIVE_PASSIVE:
            for place in active:
                await self.client.uncordon_machine(place.app, self._machines[place.name].id)

    async def _ensure_stopped(self, blueprint: Blueprint, stopped: list[Place]) -> None:
        """Have machines that stand by ready to start with the right configuration."""
        for place in stopped:
            machine = self._machines[place.name]
            if machine.state in (MachineState.STARTED, MachineState.STARTING):
                await self.client.stop_machine(place.app, machine.id)
            config = blueprint.config(place, None)
            if machine.config != config:
                await self.client.update_machine(place.app, machine.id, config, launch=False)

    async def _ensure_one(self, blueprint: Blueprint, place: Place) -> None:
        machine = self._machines[place.name]
        volume = self._volumes.get(place.region) if place.volume_gb else None
        config = carried_over(machine.config, blueprint.config(place, volume))
        if machine.config != config:
            await self.client.update_machine(place.app, machine.id, config)
        elif machine.state is not MachineState.STARTED:
            await self.client.start_machine(place.app, machine.id)
        self.progress.seen("machine", f"{place.region} {place.name} {machine.id}")

    async def _wait_for_primary(self) -> None:
        app = f"{self.deployment.app}-db"

        async def primary() -> bool | NotYet:
            machines = await self.client.list_machines(app)
            self._refuse_failed(machines)
            for machine in machines:
                if any(c.status == "passing" for c in machine.checks if "servicecheck" in c.name):
                    self.primary_region = machine.region
                    self.progress.seen("primary", machine.region)
                    return True
            return NotYet(_unhealthy(machines))

        await wait_until(
            primary, timeout=PRIMARY_WITHIN, waiting_for="a primary database", interval=POLL
        )

    async def _migrate(self, place: Place) -> None:
        machine = self._machines[place.name]
        result = await self.client.exec(
            place.app, machine.id, ["viral", "node", "migrate"], timeout=MIGRATED_WITHIN
        )
        if result.exit_code:
            said = (result.stderr or result.stdout).strip()
            raise MachineFailedError(f"The migration failed with {result.exit_code}: {said}")

    async def _wait_until_healthy(self, wanted: tuple[Place, ...]) -> None:
        async def healthy() -> bool | NotYet:
            found: dict[str, Machine] = {}
            for app in apps(self.deployment):
                found |= {m.name: m for m in await self.client.list_machines(app)}
            machines = [found[place.name] for place in wanted]
            self._refuse_failed(machines)
            if not all(machine.healthy for machine in machines):
                return NotYet(_unhealthy(machines))
            self._machines = found
            return True

        await wait_until(
            healthy, timeout=HEALTHY_WITHIN, waiting_for="every machine to be healthy",
            interval=POLL,
        )  # fmt: skip

    async def _wait_until_serving(self, serving: list[Place]) -> None:
        path = self.deployment.service.check.path
        await asyncio.gather(*(wait_until_routed(url, path) for url in self.edges.values()))
        if self.edges and self.deployment.service.app == BUNDLED_APP:
            await asyncio.gather(
                *(
                    wait_until_aware(self.edges[place.region], self._machines[place.name].id)
                    for place in serving
                )
            )

    def _refuse_failed(self, machines: list[Machine]) -> None:
        for machine in machines:
            exits = [event for event in machine.events if event.type == "exit"]
            failed = machine.state is MachineState.FAILED
            if failed or (machine.state is MachineState.STOPPED and exits):
                raise MachineFailedError(
                    f"The machine {machine.name} ({machine.id}) does not stay up.",
                    suggestion=f"Its output: viral logs --machine {machine.id}.",
                    machine=machine.id,
                )


def _unhealthy(machines: list[Machine]) -> str:
    return ", ".join(
        f"{machine.name} is {machine.state}"
        + "".join(f" ({c.name}: {c.output})" for c in machine.checks if c.status != "passing")
        for machine in machines
        if not machine.healthy
    )
