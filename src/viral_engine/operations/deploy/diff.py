"""The difference between what is wanted and what is found, as a plan: pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from viral_engine.errors import RefusedError
from viral_engine.fly.model import Machine, MachineState
from viral_engine.operations.blueprint import (
    MIGRATION,
    Addresses,
    Blueprint,
    Place,
    apps,
    needed_from_outside,
    places,
)
from viral_engine.operations.deploy.changes import (
    UNDECLARED,
    AddAddress,
    AddCertificate,
    Change,
    CordonMachine,
    CreateApp,
    CreateVolume,
    DestroyMachine,
    Migrate,
    OfMachine,
    SetSecrets,
    StopMachine,
)
from viral_engine.operations.deploy.found import UNSEEN, Found, digest, exit_code, volume_of
from viral_engine.operations.deploy.machines import (
    app_stages,
    create_drafts,
    data_stages,
)
from viral_engine.operations.deploy.plan import Plan, Stage
from viral_engine.operations.rollout_mark import served_before_rollout
from viral_engine.topology.model import BUNDLED_APP

VOLUME = "data"
OURS = ("app", "worker", "cache", MIGRATION)
"""Roles whose machines hold nothing: one that nothing declares is destroyed."""


@dataclass(frozen=True, slots=True)
class Sides:
    """What is wanted, with the addresses that are known by now, and what is found."""

    blueprint: Blueprint
    found: Found
    wanted: tuple[Place, ...]

    @property
    def primary_region(self) -> str:
        """Where the primary is, or is meant to be while there is none."""
        return self.found.primary_region or self.blueprint.deployment.primary_region


def diff(blueprint: Blueprint, found: Found) -> Plan:
    """Decide what makes the one into the other; raises RefusedError where no deploy can.

    The plan's first stage can be carried out as it stands; later ones may hold addresses that only
    the first brings about, and are planned again when their turn comes.
    """
    _refuse_other_members(blueprint, found)
    wanted = (*places(blueprint.deployment), *_scaled(blueprint, found))
    sides = Sides(replace(blueprint, addresses=_addresses(blueprint, found, wanted)), found, wanted)
    stages = (
        Stage("Create apps", tuple(_missing_apps(sides))),
        Stage(
            "Prepare volumes, secrets and addresses",
            (*_volumes(sides), *_secrets(sides), *_outside(sides)),
        ),
        Stage(
            "Place databases, witness and caches",
            tuple(create_drafts(sides.blueprint, found, wanted)),
        ),
        *data_stages(sides.blueprint, found, wanted, primary=sides.primary_region),
        Stage("Migrate the database", tuple(_migrations(sides))),
        *app_stages(sides.blueprint, found, wanted, primary=sides.primary_region),
        *_farewell(sides),
    )
    return Plan(tuple(stage for stage in stages if stage.changes), tuple(sorted(_notes(sides))))


def _addresses(blueprint: Blueprint, found: Found, wanted: tuple[Place, ...]) -> Addresses:
    """Addresses by region; one that is not known yet is named after its machine."""

    def by_region(role: str) -> dict[str, str]:
        machines = {
            p.region: (p.name, found.machine(p.app, p.name)) for p in wanted if p.role == role
        }
        return {r: m.private_ip if m else f"address-of-{name}" for r, (name, m) in machines.items()}

    return Addresses(
        by_region("database"), by_region("witness"), by_region("cache"), blueprint.addresses.primary
    )


def _scaled(blueprint: Blueprint, found: Found) -> Iterator[Place]:
    """App machines above a region's least number and within its largest: somebody scaled."""
    app = blueprint.deployment.app
    for machine in found.app(app).machines:
        number = re.fullmatch(rf"app-{machine.region}-(\d+)", machine.name)
        if number is None or machine.region not in blueprint.deployment.region_codes:
            continue
        plan = blueprint.deployment.plan(machine.region)
        if plan.min < int(number[1]) <= plan.max:
            yield Place(app, machine.name, machine.region, "app")


def _missing_apps(sides: Sides) -> Iterator[Change]:
    needed = {place.app for place in sides.wanted}
    for app in apps(sides.blueprint.deployment):
        if app in needed and app not in sides.found.apps:
            yield CreateApp(app=app, reason="it does not exist")


def _volumes(sides: Sides) -> Iterator[Change]:
    for place in sides.wanted:
        if place.volume_gb and volume_of(sides.found, place) is None:
            yield CreateVolume(
                app=place.app, name=VOLUME, region=place.region, size_gb=place.volume_gb,
                reason=f"{place.name} has none",
            )  # fmt: skip


def _secrets(sides: Sides) -> Iterator[Change]:
    for app, values in sides.blueprint.app_secrets().items():
        known = sides.found.app(app).secrets
        digests = {name: digest(value) for name, value in values.items()}
        changed = {n: d for n, d in digests.items() if known.get(n) not in (d, UNSEEN)}
        if changed:
            missing = frozenset(changed) - known.keys()
            yield SetSecrets(
                app=app, digests=changed, new=missing,
                values={name: values[name] for name in changed},
                reason="they are not set" if missing else "they have other values",
            )  # fmt: skip


def _outside(sides: Sides) -> Iterator[Change]:
    """Ways in: users' by the first app, the primary's for our own machines by the database's."""
    deployment = sides.blueprint.deployment
    for app, kinds in (
        (deployment.app, ("shared_v4", "v6")),
        (f"{deployment.app}-db", ("private_v6",)),
    ):
        had = sides.found.app(app).addresses
        for kind in kinds:
            # A dedicated IPv4 address does what the shared one would.
            if kind not in had and not (kind == "shared_v4" and "v4" in had):
                yield AddAddress(app=app, address=kind, reason="it has none of that kind")
    for hostname in deployment.service.hostnames:
        if hostname not in sides.found.app(deployment.app).certificates:
            yield AddCertificate(app=deployment.app, hostname=hostname, reason="there is none")


def _migrations(sides: Sides) -> Iterator[Change]:
    """Before the first app machine of an image there are its migrations.

    That they are done is shown by the machine that did them, and then by the app machines.
    """
    blueprint = sides.blueprint
    app = blueprint.deployment.app
    if blueprint.deployment.service.app != BUNDLED_APP:
        return
    machines = sides.found.app(app).machines
    ran = [m for m in machines if m.state is not MachineState.CREATED]
    ours = [m for m in ran if m.config.image == blueprint.image]
    if not any(m.role == "app" or (m.role == MIGRATION and exit_code(m) == 0) for m in ours):
        yield Migrate(
            app=app, region=blueprint.deployment.primary_region, config=blueprint.migration(),
            reason=f"no app machine runs {blueprint.image} yet",
        )  # fmt: skip


def _farewell(sides: Sides) -> Iterator[Stage]:
    """Destroy what nothing declares; who serves users is cordoned, drained and stopped before."""
    going = [(app, machine) for app, machine in _undeclared(sides)
             if machine.config.metadata.get("fly_process_group") in OURS]  # fmt: skip
    serving = [
        (app, m) for app, m in going if m.config.services and m.state is MachineState.STARTED
    ]
    in_reach = [(app, m) for app, m in serving if not m.cordoned]
    yield Stage("Cordon what nothing declares", _each(CordonMachine, in_reach))
    yield Stage("Stop what nothing declares", _each(StopMachine, serving))
    yield Stage("Destroy what nothing declares", _each(DestroyMachine, going))


def _each(kind: type[OfMachine], machines: list[tuple[str, Machine]]) -> tuple[OfMachine, ...]:
    return tuple(
        kind(app=app, name=m.name, region=m.region, role=m.role, machine=m.id, reason=UNDECLARED)
        for app, m in machines
    )


def _undeclared(sides: Sides) -> Iterator[tuple[str, Machine]]:
    declared = {(place.app, place.name) for place in sides.wanted}
    for app, found in sides.found.apps.items():
        for machine in found.machines:
            if (app, machine.name) not in declared:
                yield app, machine


def _refuse_other_members(blueprint: Blueprint, found: Found) -> None:
    """Raise RefusedError where the regions of the databases are others than those that run.

    Which members etcd has, and where the data is, is not changed by machines that come and go.
    """
    votes = {p.region for p in places(blueprint.deployment) if p.role in ("database", "witness")}
    members = [m for m in found.machines if m.role in ("database", "witness")]
    have = {machine.region for machine in members}
    if any(m.state is not MachineState.CREATED for m in members) and have != votes:
        raise RefusedError(
            f"The databases and the witness are in {_listed(have)}, and wanted "
            f"in {_listed(votes)}: a deploy does not move data. Nothing was changed.",
            suggestion="Write the regions and the witness in viral.toml as they are.",
        )


def _listed(regions: set[str]) -> str:
    return ", ".join(sorted(regions))


def _notes(sides: Sides) -> Iterator[str]:
    """What differs and is left as it is, with the command that would change it."""
    deployment = sides.blueprint.deployment
    yield from _cordon_notes(sides)
    for _, machine in _undeclared(sides):
        role = machine.config.metadata.get("fly_process_group")
        if role not in OURS:
            yield f"{machine.name} ({machine.id}) is not ours and stays: fly machine destroy {machine.id}"
    primary = sides.found.primary_region
    if primary not in (None, deployment.primary_region):
        yield f"the primary is in {primary}, not in {deployment.primary_region}: viral failback"
    yield from _volume_notes(sides)
    known = {*sides.found.app(deployment.app).secrets, *sides.blueprint.external}
    for variable in needed_from_outside(deployment):
        if variable not in known:
            yield (f"somebody else runs what {variable} leads to, and {deployment.app} has no such "
                   f"secret: fly secrets set -a {deployment.app} {variable}=...")  # fmt: skip
    for app, values in sides.blueprint.app_secrets().items():
        if any(sides.found.app(app).secrets.get(name) == UNSEEN for name in values):
            yield f"the secrets of {app} cannot be compared: this token may not see them"


def _cordon_notes(sides: Sides) -> Iterator[str]:
    for place in sides.wanted:
        machine = sides.found.machine(place.app, place.name)
        if machine is None or not machine.cordoned or served_before_rollout(machine):
            continue
        if "viral_standby" not in machine.config.metadata:
            yield f"{place.name} is cordoned and stays so: viral uncordon {place.name}"


def _volume_notes(sides: Sides) -> Iterator[str]:
    used = {volume_of(sides.found, place): place for place in sides.wanted if place.volume_gb}
    for app in sides.found.apps.values():
        for volume in app.volumes:
            place = used.get(volume.id)
            if place is None:
                yield f"the volume {volume.id} in {volume.region} is not used, and stays"
            elif volume.size_gb != place.volume_gb:
                yield (f"the volume of {place.name} has {volume.size_gb} GB, not {place.volume_gb}, "
                       f"and stays: fly volumes extend {volume.id}")  # fmt: skip
