"""How the databases of a deployment stand, as frozen values: what operators' plans are made from."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from viral_engine.errors import MisuseError, OperationError, PlatformError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import Machine, MachineState
from viral_engine.lsn import Lsn
from viral_engine.operations.control import ctl
from viral_engine.operations.observe import Found, find_machines

PRIMACY_LAPSES_S = 5.0
"""Seconds without a renewal after which whoever held primacy acknowledges nothing any more."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One database machine, as it told; ``error`` where it did not, and then the rest is unknown."""

    region: str
    app: str
    machine: str
    running: bool = True
    error: str = ""
    role: str = "unknown"
    timeline: int | None = None
    received: Lsn | None = None
    replayed: Lsn | None = None
    streaming: bool = False
    lock: str | None = None
    last_primary: str | None = None
    last_position: Lsn | None = None
    synchronous: tuple[str, ...] = ()
    paused: bool = False
    guarded: bool = True
    primacy: str | None = None
    unchanged_s: float | None = None
    remaining_s: float | None = None
    majority: bool = False
    voices: Mapping[str, bool] = field(default_factory=dict)
    operator: Mapping[str, str] | None = None

    @property
    def acknowledges(self) -> bool:
        """Whether it is a primary that may answer commits with yes."""
        held = self.remaining_s is not None and self.remaining_s > 0
        return self.role == "primary" and (held or not self.guarded)

    def sees_renewed(self) -> str | None:
        """The region that this machine saw renew primacy within the last 5 s."""
        fresh = self.unchanged_s is not None and self.unchanged_s < PRIMACY_LAPSES_S
        return self.primacy if fresh else None


@dataclass(frozen=True, slots=True)
class Attendance:
    """A machine of any role: whether it runs, is well, and can be reached by users."""

    region: str
    app: str
    machine: str
    name: str
    role: str
    running: bool
    healthy: bool
    cordoned: bool


@dataclass(frozen=True, slots=True)
class Formation:
    """A whole deployment; ``declared`` is the region of the primary as viral.toml says it."""

    declared: str
    databases: tuple[Standing, ...]
    machines: tuple[Attendance, ...] = ()
    passive: str | None = None
    """How app machines stand by outside the primary region: None where all regions serve."""

    @property
    def regions(self) -> tuple[str, ...]:
        """Where a database is."""
        return tuple(one.region for one in self.databases)

    @property
    def primary(self) -> Standing | None:
        """The primary: of several, which a lost one may still believe, the one that acknowledges."""
        found = [one for one in self.databases if one.role == "primary"]
        return next((one for one in found if one.acknowledges), found[0] if found else None)

    def at(self, region: str) -> Standing:
        """Return the database of a region; raises MisuseError where there is none."""
        for one in self.databases:
            if one.region == region:
                return one
        raise MisuseError(
            f"There is no database in {region}.",
            suggestion=f"There is one in: {', '.join(self.regions)}.",
        )

    def apps_in(self, region: str) -> tuple[Attendance, ...]:
        """The machines of a region that serve users."""
        return tuple(one for one in self.machines if one.role == "app" and one.region == region)

    def answering(self) -> tuple[Standing, ...]:
        """The databases that can be asked, the primary's first."""
        found = [one for one in self.databases if not one.error]
        return tuple(sorted(found, key=lambda one: one is not self.primary))


async def observe_formation(client: FlyClient) -> Formation:
    """Ask the platform and, at once, every database machine that runs."""
    found = await find_machines(client)
    databases = [one for one in found if one.machine.role == "database"]
    if not databases:
        raise OperationError(
            "This deployment has no database machine.", suggestion="Start it with: viral up."
        )
    apps = [one.machine for one in found if one.machine.role == "app"]
    return Formation(
        declared=databases[0].machine.config.env.get("PRIMARY_REGION", ""),
        databases=tuple(await asyncio.gather(*(_ask(client, one) for one in databases))),
        machines=tuple(_attendance(one) for one in found),
        passive=next((m.config.metadata.get("viral_standby") for m in apps), None),
    )


async def ask_standing(client: FlyClient, one: Standing) -> Standing:
    """Ask one database machine anew."""
    try:
        said = await ctl(client, one, "standing")
    except (PlatformError, OperationError) as error:
        return Standing(one.region, one.app, one.machine, error=error.message)
    return standing_of(said, region=one.region, app=one.app, machine=one.machine)


async def _ask(client: FlyClient, found: Found) -> Standing:
    machine = found.machine
    silent = Standing(machine.region, found.app, machine.id)
    if not _runs(machine):
        return Standing(
            machine.region, found.app, machine.id, running=False,
            error=f"its machine is {machine.state}",
        )  # fmt: skip
    return await ask_standing(client, silent)


def standing_of(said: Mapping[str, Any], *, region: str, app: str, machine: str) -> Standing:
    """Read the answer of ``viral node ctl standing``."""
    primacy = said.get("primacy") or {}
    return Standing(
        region=region,
        app=app,
        machine=machine,
        role=said["role"],
        timeline=said.get("timeline"),
        received=_lsn(said.get("received")),
        replayed=_lsn(said.get("replayed")),
        streaming=bool(said.get("streaming")),
        lock=said.get("lock"),
        last_primary=said.get("last_primary"),
        last_position=_lsn(said.get("last_position")),
        synchronous=tuple(said.get("synchronous") or ()),
        paused=bool(said.get("paused")),
        guarded=bool(said.get("guarded")),
        primacy=primacy.get("region"),
        unchanged_s=primacy.get("unchanged_seconds"),
        remaining_s=primacy.get("remaining_seconds"),
        majority=bool(said.get("majority")),
        voices=dict(said.get("voices") or {}),
        operator=said.get("operator"),
    )


def _attendance(found: Found) -> Attendance:
    machine = found.machine
    return Attendance(
        machine.region, found.app, machine.id, machine.name, machine.role, _runs(machine),
        machine.healthy, machine.cordoned,
    )  # fmt: skip


def _runs(machine: Machine) -> bool:
    return machine.state in (MachineState.STARTED, MachineState.STARTING)


def _lsn(text: str | None) -> Lsn | None:
    return Lsn.parse(text) if text else None
