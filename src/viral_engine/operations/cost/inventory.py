"""What is paid for: machines and volumes, as they are declared or as the platform has them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from decimal import Decimal

from viral_engine.errors import NotFoundError, OperationError, RefusedError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import Guest as WireGuest
from viral_engine.fly.model import Machine, MachineState
from viral_engine.operations.blueprint import apps, places
from viral_engine.operations.sketch import sketch
from viral_engine.topology.model import CpuKind, Deployment, Guest, RegionPlan, Standby, Strategy

__all__ = ["Inventory", "Kept", "Stored", "declared", "found"]

NOT_RUNNING = {
    MachineState.CREATED, MachineState.STOPPED, MachineState.SUSPENDED, MachineState.FAILED,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kept:
    """A kind of machine in a region: what for, how big, and whether it runs."""

    region: str
    role: str
    guest: Guest
    running: bool = True


@dataclass(frozen=True, slots=True)
class Stored:
    """A volume of a region, in GB."""

    region: str
    gb: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """How many there are of each."""

    machines: Counter[Kept]
    volumes: Counter[Stored]


def declared(deployment: Deployment, load: Decimal = Decimal(0)) -> Inventory:
    """Return what a deployment declares, with its app machines between min (0) and max (1)."""
    busy = replace(deployment, regions=tuple(_at(plan, load) for plan in deployment.regions))
    blueprint = sketch(busy)
    machines: Counter[Kept] = Counter()
    volumes: Counter[Stored] = Counter()
    for place in places(busy):
        guest = _guest(blueprint.config(place, None).guest)
        running = place.role != "app" or not _stands_by_stopped(busy, place.region)
        machines[Kept(place.region, place.role, guest, running)] += 1
        if place.volume_gb:
            volumes[Stored(place.region, place.volume_gb)] += 1
    return Inventory(machines, volumes)


async def found(client: FlyClient, deployment: Deployment) -> Inventory:
    """Return what the platform has of a deployment; RefusedError where it has none of its apps."""
    machines: Counter[Kept] = Counter()
    volumes: Counter[Stored] = Counter()
    there = 0
    for app in apps(deployment):
        try:
            of_app = await client.list_machines(app)
            stored = await client.list_volumes(app)
        except NotFoundError:
            continue
        there += 1
        machines.update(map(_kept, of_app))
        volumes.update(Stored(volume.region, volume.size_gb) for volume in stored)
    if not there:
        raise RefusedError(
            f'The platform has no app "{deployment.app}".',
            suggestion="The app is named by the deployment file: see --file.",
        )
    return Inventory(machines, volumes)


def _kept(machine: Machine) -> Kept:
    running = machine.state not in NOT_RUNNING
    return Kept(machine.region, machine.role, _guest(machine.config.guest), running)


def _guest(guest: WireGuest) -> Guest:
    if guest.cpu_kind not in list(CpuKind):
        raise OperationError(f'No price is known for machines of the kind "{guest.cpu_kind}".')
    return Guest(cpu_kind=CpuKind(guest.cpu_kind), cpus=guest.cpus, memory_mb=guest.memory_mb)


def _at(plan: RegionPlan, load: Decimal) -> RegionPlan:
    more = (load * (plan.max - plan.min)).to_integral_value(rounding="ROUND_CEILING")
    return replace(plan, min=plan.min + int(more))


def _stands_by_stopped(deployment: Deployment, region: str) -> bool:
    return (
        deployment.strategy is Strategy.ACTIVE_PASSIVE
        and deployment.standby is Standby.STOPPED
        and region != deployment.primary_region
    )
