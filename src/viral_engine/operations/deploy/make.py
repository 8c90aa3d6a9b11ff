"""Makes one change so: each can be repeated, and is done by the one call that does it."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta

from viral_engine.errors import (
    LeaseHeldError,
    LostAnswerError,
    MachineFailedError,
    NoCapacityError,
    PlatformError,
    WaitTimeoutError,
)
from viral_engine.fly.app_settings import AppSettings
from viral_engine.fly.client import FlyClient
from viral_engine.fly.leases import leased
from viral_engine.fly.model import Machine, MachineState
from viral_engine.operations.blueprint import MIGRATION
from viral_engine.operations.deploy.changes import (
    AddAddress,
    AddCertificate,
    Change,
    CordonMachine,
    CreateApp,
    CreateMachine,
    CreateVolume,
    DestroyMachine,
    Migrate,
    OfMachine,
    SetSecrets,
    StartMachine,
    StopMachine,
    UncordonMachine,
    UpdateMachine,
)
from viral_engine.operations.deploy.found import exit_code
from viral_engine.operations.draining import drained
from viral_engine.operations.operator_lock import Operator, other_operator

STOPPED_WITHIN = timedelta(seconds=330)
MIGRATED_WITHIN = timedelta(seconds=120)


TRIES = 3
"""Of one change: what is not so after these will not be so after more."""

LOOK_ANEW = (408, 409, 412)
"""Refusals that say that something is not as it was seen."""


def may_have_happened(error: PlatformError) -> bool:
    """Whether to look anew after a refusal, instead of giving up."""
    if isinstance(error, NoCapacityError):
        return False
    return isinstance(error, LostAnswerError) or error.status >= 500 or error.status in LOOK_ANEW


@dataclass(frozen=True, slots=True)
class Making:
    """What every change is made with."""

    client: FlyClient
    operator: Operator
    org: str

    @property
    def words(self) -> str:
        """What others are told who find a machine leased."""
        return f"{self.operator.what} by {self.operator.who}"


async def make(making: Making, change: Change) -> None:
    """Make one change; raises PlatformError, or OtherOperatorError where a machine is leased."""
    client, settings = making.client, AppSettings(making.client)
    match change:
        case CreateApp():
            await _create_app(making, change)
        case CreateVolume():
            await client.create_volume(
                change.app, name=change.name, region=change.region, size_gb=change.size_gb
            )
        case SetSecrets():
            await settings.set_secrets(change.app, change.values)
        case AddAddress():
            await settings.add_address(change.app, change.address)
        case AddCertificate():
            await settings.add_certificate(change.app, change.hostname)
        case CreateMachine():
            await client.create_machine(
                change.app, name=change.name, region=change.region, config=change.config,
                launch=change.launch, registered=not change.cordoned,
            )  # fmt: skip
        case Migrate():
            await _migrate(client, change)
        case OfMachine():
            await _leased(making, change)


async def _leased(making: Making, change: OfMachine) -> None:
    """Change a machine under its lease, or under the deploy's own where that is the same."""
    client = making.client
    held = change.machine in client.nonces
    lease = leased(client, change.app, change.machine, making.words)
    try:
        async with nullcontext() if held else lease:
            await _change(client, change)
    except LeaseHeldError as error:
        raise await other_operator(client, change.app, change.machine, error) from error


async def _change(client: FlyClient, change: OfMachine) -> None:
    app, machine = change.app, change.machine
    match change:
        case UpdateMachine():
            await client.update_machine(app, machine, change.config, launch=change.launch)
        case StartMachine():
            await client.start_machine(app, machine)
        case StopMachine():
            with suppress(WaitTimeoutError):  # it waits for its requests once more as it stops
                await drained(client, change, change.name)
            await client.stop_machine(app, machine)
            await client.wait_for(app, machine, MachineState.STOPPED, timeout=STOPPED_WITHIN)
        case CordonMachine():
            await client.cordon_machine(app, machine)
        case UncordonMachine():
            await client.uncordon_machine(app, machine)
        case DestroyMachine():
            await client.delete_machine(app, machine, force=True)


async def _create_app(making: Making, change: CreateApp) -> None:
    try:
        await making.client.create_app(change.app, org=making.org)
    except PlatformError as error:
        if error.status != 422:
            raise
        try:
            await making.client.get_app(change.app)  # of two that make it at once, the second
        except PlatformError:
            raise PlatformError(
                f"The app {change.app} cannot be made: {error.message}", status=error.status,
                suggestion="The name may be somebody else's: choose another for app in viral.toml.",
            ) from error  # fmt: skip


async def _migrate(client: FlyClient, change: Migrate) -> None:
    """Run the migrations in a machine of their own, which stays and so shows how they ended."""
    machine = await _migration_machine(client, change)
    await client.wait_for(change.app, machine.id, MachineState.STOPPED, timeout=MIGRATED_WITHIN)
    code = exit_code(await client.get_machine(change.app, machine.id))
    if code != 0:
        raise MachineFailedError(
            f"The migration failed with {code}: no machine that serves was changed.",
            suggestion=f"Its output: viral logs --machine {machine.id}.",
            machine=machine.id,
        )


async def _migration_machine(client: FlyClient, change: Migrate) -> Machine:
    """The machine that an interrupted deploy left at this work, else a new one."""
    for machine in await client.list_machines(change.app):
        if machine.name == MIGRATION:
            works = machine.state is not MachineState.STOPPED or exit_code(machine) == 0
            if works and machine.config.image == change.config.image:
                return machine
            await client.delete_machine(change.app, machine.id, force=True)
    return await client.create_machine(
        change.app, name=MIGRATION, region=change.region, config=change.config, registered=False
    )
