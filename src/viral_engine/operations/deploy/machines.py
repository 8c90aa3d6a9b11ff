"""Which machines are made, updated and started, and in which order: pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from viral_engine.fly.model import Machine, MachineConfig, MachineState
from viral_engine.operations.blueprint import Blueprint, Place
from viral_engine.operations.deploy.changes import (
    Change,
    CordonMachine,
    CreateMachine,
    HandOver,
    OfMachine,
    StartMachine,
    StopMachine,
    UncordonMachine,
    UpdateMachine,
)
from viral_engine.operations.deploy.differences import differences, merged
from viral_engine.operations.deploy.found import Found, volume_of
from viral_engine.operations.deploy.plan import Stage, Until
from viral_engine.operations.rebuild_etcd import (
    ETCD_ROLES,
    carried_over,
    setting_missed,
    with_setting,
)
from viral_engine.operations.rollout_mark import served_before_rollout
from viral_engine.topology.model import Standby, Strategy

RUNS = (MachineState.STARTED, MachineState.STARTING, MachineState.REPLACING)


def create_drafts(
    blueprint: Blueprint, found: Found, wanted: tuple[Place, ...]
) -> Iterator[Change]:
    """Data machines that are not there: each gets its place and address before any is started."""
    for place in _of(wanted, "database", "witness", "cache"):
        if found.machine(place.app, place.name) is None:
            config = blueprint.config(place, _volume(found, place))
            draft = config.model_copy(update={"env": {}})
            yield CreateMachine(
                **_place(place), reason="it does not exist", config=draft, launch=False
            )


def data_stages(
    blueprint: Blueprint, found: Found, wanted: tuple[Place, ...], *, primary: str
) -> Iterator[Stage]:
    """Start what does not run, at once; then update what runs, one by one.

    Who is ill goes first, since nothing is lost with it and an update may be its cure; the primary
    goes last.
    """
    changes = {
        place: change
        for place in _in_order(wanted, primary)
        if (change := _data_change(blueprint, found, place)) is not None
    }
    running = [p for p in changes if _runs(found.machine(p.app, p.name))]
    starting = [change for place, change in changes.items() if place not in running]
    if starting:
        yield Stage("Start databases, witness and caches", tuple(starting), Until.PRIMARY)
    ill = [p for p in running if not _is_healthy(found.machine(p.app, p.name))]
    last = [p for p in running if (p.role, p.region) == ("database", primary) and p not in ill]
    for place in (*ill, *(p for p in running if p not in (*ill, *last))):
        yield Stage(f"Update {place.name}", (changes[place],), Until.WELL)
    others = [p for p in _of(wanted, "database") if p.region != primary]
    for place in last:
        if others and found.primary_region == primary:
            away = HandOver(app=place.app, region=primary, reason=f"{place.name} is updated next")
            yield Stage("Hand the primary over", (away,), Until.WELL)
        yield Stage(f"Update {place.name}", (changes[place],), Until.WELL)


def app_stages(
    blueprint: Blueprint, found: Found, wanted: tuple[Place, ...], *, primary: str
) -> Iterator[Stage]:
    """Make and start what does not run, at once; then update what serves, one after the other."""
    serving = list(_of(wanted, "app"))
    passive = blueprint.deployment.strategy is Strategy.ACTIVE_PASSIVE
    waiting = {p for p in serving if passive and p.region != primary}
    stopped = waiting if blueprint.deployment.standby is Standby.STOPPED else set()
    changes = {
        place: change
        for place in serving
        if (change := _app_change(blueprint, found, place, waiting, stopped)) is not None
    }
    running = {p for p in serving if _runs(found.machine(p.app, p.name))}
    rolling = [p for p in running if isinstance(changes.get(p), UpdateMachine)]
    starting = [change for p, change in changes.items() if p not in running]
    standing_down = [
        *(change for p in waiting & running for change in _cordon(found, p)),
        *(change for change in changes.values() if isinstance(change, StopMachine)),
    ]
    ready = [
        *(change for p in waiting - running for change in _cordon(found, p)),
        *(change for p in serving if p not in waiting for change in _uncordon(found, p)),
    ]
    yield Stage("Ready those that stand by, and those that stood by", _sorted(ready))
    until = Until.HEALTHY if standing_down else Until.DONE
    yield Stage("Start app machines", _sorted(starting), until)
    yield Stage("Stand down", _sorted(standing_down))
    for place in sorted(rolling, key=lambda p: p.name):
        yield Stage(f"Update {place.name}", (changes[place],), Until.HEALTHY)


def _in_order(wanted: tuple[Place, ...], primary: str) -> list[Place]:
    """The primary's database first, the witness whose vote it needs, then replicas and caches."""
    roles = ("database", "witness", "cache")

    def rank(place: Place) -> int:
        if place.role == "database":
            return 0 if place.region == primary else 2
        return 1 if place.role == "witness" else 3

    return sorted(_of(wanted, *roles), key=rank)


def _data_change(blueprint: Blueprint, found: Found, place: Place) -> OfMachine | None:
    machine = found.machine(place.app, place.name)
    if machine is None:
        return None  # its draft comes first, and brings the address that all configurations need
    wanted = carried_over(machine.config, blueprint.config(place, _volume(found, place)))
    if place.role in ETCD_ROLES and not _runs(machine):
        others = [m for m in found.machines if m.role in ETCD_ROLES]
        missed = setting_missed(machine, others)
        wanted = wanted if missed is None else with_setting(wanted, missed)
    return _update_or_start(place, machine, wanted)


def _app_change(
    blueprint: Blueprint, found: Found, place: Place, waiting: set[Place], stopped: set[Place]
) -> OfMachine | None:
    machine = found.machine(place.app, place.name)
    config = blueprint.config(place, None)
    runs = place not in stopped
    if machine is None:
        return CreateMachine(
            **_place(place), reason="it does not exist", config=config, launch=runs,
            cordoned=place in waiting,
        )  # fmt: skip
    if not runs and _runs(machine):
        return StopMachine(**_place(place, machine), reason="it stands by stopped")
    return _update_or_start(place, machine, config, runs=runs)


def _update_or_start(
    place: Place, machine: Machine, wanted: MachineConfig, *, runs: bool = True
) -> OfMachine | None:
    differing = differences(machine.config, wanted)
    if differing:
        first, more = differing[0], len(differing) - 1
        if machine.state is MachineState.CREATED:
            reason = "it has not run yet"
        else:
            reason = first.sentence + (f", and {more} more" if more else "")
        return UpdateMachine(
            **_place(place, machine), reason=reason, config=merged(machine.config, wanted),
            differences=differing, launch=runs,
        )  # fmt: skip
    if runs and not _runs(machine):
        return StartMachine(**_place(place, machine), reason=f"it is {machine.state}")
    return None


def _cordon(found: Found, place: Place) -> Iterator[OfMachine]:
    """Take who stands by out of the edges' reach."""
    machine = found.machine(place.app, place.name)
    if machine is not None and not machine.cordoned:
        yield CordonMachine(**_place(place, machine), reason="it stands by")


def _uncordon(found: Found, place: Place) -> Iterator[OfMachine]:
    """Let users reach who stood by, or was to be changed; what an operator cordoned stays so."""
    machine = found.machine(place.app, place.name)
    if machine is None or not machine.cordoned:
        return
    if "viral_standby" in machine.config.metadata:
        yield UncordonMachine(**_place(place, machine), reason="it stands by no more")
    elif served_before_rollout(machine):
        yield UncordonMachine(**_place(place, machine), reason="it served before the rollout")


def _sorted(changes: Iterable[OfMachine]) -> tuple[OfMachine, ...]:
    return tuple(sorted(changes, key=lambda change: (change.name, change.kind)))


def _is_healthy(machine: Machine | None) -> bool:
    return machine is not None and machine.healthy


def _volume(found: Found, place: Place) -> str | None:
    """The volume of a machine, named after it while there is none."""
    return (volume_of(found, place) or f"volume-of-{place.name}") if place.volume_gb else None


def _runs(machine: Machine | None) -> bool:
    return machine is not None and machine.state in RUNS


def _of(wanted: Iterable[Place], *roles: str) -> Iterator[Place]:
    return (place for place in wanted if place.role in roles)


def _place(place: Place, machine: Machine | None = None) -> dict[str, Any]:
    return {"app": place.app, "name": place.name, "region": place.region, "role": place.role,
            "machine": machine.id if machine else ""}  # fmt: skip
