"""What a rollout does to machines: each can be repeated, and is done by name to what is found then."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta

from viral_engine.clock import NotYet, wait_until
from viral_engine.errors import (
    MachineFailedError,
    NotFoundError,
    PlatformError,
    WaitTimeoutError,
)
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import Machine, MachineConfig
from viral_engine.operations.blueprint import MIGRATION, Blueprint
from viral_engine.operations.deploy.changes import (
    Change,
    CordonMachine,
    CreateMachine,
    DestroyMachine,
    Migrate,
    OfMachine,
    UncordonMachine,
    UpdateMachine,
)
from viral_engine.operations.deploy.deploy import refuse_failed, unhealthy
from viral_engine.operations.deploy.differences import differences
from viral_engine.operations.deploy.machines import RUNS
from viral_engine.operations.deploy.make import TRIES, Making, make, may_have_happened
from viral_engine.operations.draining import drained
from viral_engine.operations.operator_lock import Operator
from viral_engine.operations.progress import Progress
from viral_engine.operations.rollout.judge import Before
from viral_engine.operations.rollout.plan import GUEST, Act, Member, Step
from viral_engine.operations.rollout.version import Mark, Strategy, Version
from viral_engine.operations.rollout.watching import Inside, figures_of
from viral_engine.operations.rollout_mark import MARK
from viral_engine.operations.serving import wait_until_routed

HEALTHY_WITHIN = timedelta(seconds=120)
POLL = timedelta(milliseconds=150)


@dataclass(frozen=True, slots=True)
class Work:
    """Everything that is done to the app machines of one deployment, for one version."""

    client: FlyClient
    blueprint: Blueprint
    operator: Operator
    progress: Progress
    version: Version
    strategy: Strategy
    edges: Mapping[str, str]

    @property
    def app(self) -> str:
        """The app whose machines get the version."""
        return self.blueprint.deployment.app

    async def do(self, one: Step) -> None:
        """Do a step other than a bake; raises ViralError."""
        acts = {
            Act.RENEW: self.renew, Act.ADD: self.add, Act.OPEN: self.open, Act.CLOSE: self.cordon,
            Act.RESTORE: self.restore, Act.RETIRE: self.retire, Act.PASS: self.forget,
        }  # fmt: skip
        if one.act is Act.MIGRATE:
            await self.migrate()
        else:
            await asyncio.gather(*map(acts[one.act], one.names))

    async def renew(self, name: str) -> None:
        """Bring the version to a machine, out of users' reach, and see that it is healthy there.

        Interrupted before it is updated, it serves again as it did.
        """
        machine = await self._marked(name)
        if not self.version.runs_on(machine.config):
            try:
                await self._emptied(machine)
            except asyncio.CancelledError:
                await self.open(name)
                await self.forget(name)
                raise
            machine = await self.machine(name)  # somebody may have changed it meanwhile
            await self._update(machine, self.version.brought_to(machine.config))
        if Member.of(machine).runs:
            await self._until_healthy(name)

    async def restore(self, name: str) -> None:
        """Bring a machine back to what it had, out of users' reach, and see that it is healthy."""
        machine = await self.machine(name)
        mark = Mark.read(machine.config)
        assert mark is not None
        await self._emptied(machine)
        machine = await self.machine(name)  # somebody may have changed it meanwhile
        await self._update(machine, mark.was.brought_to(machine.config))
        if Member.of(machine).runs:
            await self._until_healthy(name)

    async def add(self, guest: str) -> None:
        """Start a machine with the version beside an old one, out of users' reach."""
        old = await self._marked(guest.removesuffix(GUEST))
        if await self._find(guest) is None:
            mark = Mark.read(old.config)
            assert mark is not None
            config = replace(mark, guest=True).put_on(self.version.brought_to(old.config))
            await self._make(CreateMachine(
                app=self.app, name=guest, region=old.region, role="app", config=config,
                cordoned=True, reason="the new version starts beside the old",
            ))  # fmt: skip
        await self._until_healthy(guest)

    async def open(self, name: str) -> None:
        """Let users reach a machine again that they reached before, and see that they do."""
        machine = await self.machine(name)
        mark = Mark.read(machine.config)
        if machine.cordoned and mark is not None and mark.served:
            await self._make(UncordonMachine(**self._of(machine), reason="users are led there"))
        if machine.region in self.edges and (mark is None or mark.served):
            path = self.blueprint.deployment.service.check.path
            await wait_until_routed(self.edges[machine.region], path, machine=machine.id)

    async def close(self, name: str) -> None:
        """Take a machine out of users' reach, from where it is to come back."""
        await self._marked(name)
        await self.cordon(name)

    async def cordon(self, name: str) -> None:
        """Take a machine out of users' reach."""
        machine = await self.machine(name)
        if not machine.cordoned:
            await self._make(CordonMachine(**self._of(machine), reason="users are led elsewhere"))

    async def retire(self, name: str) -> None:
        """Destroy a machine once its requests have ended."""
        machine = await self._find(name)
        if machine is not None:
            await self._emptied(machine)
            await self._make(DestroyMachine(**self._of(machine), reason="it was for the bake"))

    async def forget(self, name: str) -> None:
        """Take the mark off: the machine is a part of no rollout any more."""
        machine = await self.machine(name)
        if MARK in machine.config.metadata:
            path = f"/apps/{self.app}/machines/{machine.id}/metadata/{MARK}"
            with suppress(NotFoundError):  # gone with the answer to a call that was lost
                await self.client.request("DELETE", path)

    async def migrate(self) -> None:
        """Run the version's migrations, in a machine of their own that goes then."""
        image = self.version.image or self.blueprint.image
        config = replace(self.blueprint, image=image).migration()
        region = self.blueprint.deployment.primary_region
        await self._make(Migrate(app=self.app, region=region, config=config,
                                 reason=f"nobody runs {image} yet"))  # fmt: skip
        await self.retire_now(MIGRATION)

    async def retire_now(self, name: str) -> None:
        """Destroy a machine that serves nobody."""
        machine = await self._find(name)
        if machine is not None:
            await self._make(DestroyMachine(**self._of(machine), reason="it has done its work"))

    async def ailment(self, name: str) -> str:
        """Say what is wrong with a machine, empty for nothing."""
        machine = await self._find(name)
        if machine is None:
            return f"{name} is gone"
        return "" if machine.healthy else unhealthy([machine])

    async def machine(self, name: str) -> Machine:
        """Return a machine as it is now; raises MachineFailedError where it is gone."""
        found = await self._find(name)
        if found is None:
            raise MachineFailedError(f"The machine {name} is gone.", suggestion="See: viral plan")
        return found

    async def _find(self, name: str) -> Machine | None:
        machines = await self.client.list_machines(self.app)
        return next((one for one in machines if one.name == name), None)

    async def _marked(self, name: str) -> Machine:
        """Note on a machine how it was, before anything is done to it."""
        machine = await self.machine(name)
        if Mark.read(machine.config) is not None:
            return machine
        told = await figures_of(self.client, Inside(self.app, machine.id))
        mark = Mark(
            to=self.version, was=self.version.left_by(machine.config), strategy=self.strategy,
            ran=Member.of(machine).runs, served=Member.of(machine).serves,
            before=Before.of(told[0]) if told else Before(),
        )  # fmt: skip
        path = f"/apps/{self.app}/machines/{machine.id}/metadata/{MARK}"
        await self.client.request("POST", path, json={"value": mark.text()})
        return machine.model_copy(update={"config": mark.put_on(machine.config)})

    async def _emptied(self, machine: Machine) -> None:
        """Have users led elsewhere, and wait for the requests under way, at most 30 s."""
        if Member.of(machine).serves:
            await self.cordon(machine.name)
        if machine.state not in RUNS:
            return
        try:
            await drained(self.client, Inside(self.app, machine.id), machine.name)
        except WaitTimeoutError as error:  # it waits for its requests once more as it stops
            self.progress.seen(machine.name, error.message)

    async def _update(self, machine: Machine, config: MachineConfig) -> None:
        await self._make(UpdateMachine(
            **self._of(machine), config=config, launch=Member.of(machine).runs,
            differences=differences(machine.config, config), reason="a rollout",
        ))  # fmt: skip

    async def _until_healthy(self, name: str) -> None:
        async def healthy() -> bool | NotYet:
            machine = await self.machine(name)
            refuse_failed([machine])
            return machine.healthy or NotYet(unhealthy([machine]))

        await wait_until(
            healthy, timeout=HEALTHY_WITHIN, interval=POLL, waiting_for=f"{name} to be healthy"
        )

    async def _make(self, change: Change) -> None:
        """Make a change, once more where its answer was lost; raises ViralError."""
        making = Making(self.client, self.operator, "personal")
        for attempt in range(1, TRIES + 1):
            try:
                await make(making, change)
            except PlatformError as error:
                if attempt == TRIES or not may_have_happened(error):
                    raise
                if isinstance(change, OfMachine) and await self._is_so(change):
                    return
            else:
                self.progress.seen(change.sentence, change.reason)
                return

    async def _is_so(self, change: OfMachine) -> bool:
        """Whether a machine is there, or gone, as was asked for; other changes may be made twice."""
        there = await self._find(change.name) is not None
        return there == isinstance(change, CreateMachine) and isinstance(
            change, CreateMachine | DestroyMachine
        )

    def _of(self, machine: Machine) -> dict[str, str]:
        return {"app": self.app, "name": machine.name, "region": machine.region,
                "role": machine.role, "machine": machine.id}  # fmt: skip
