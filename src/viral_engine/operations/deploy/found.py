"""What the platform has of a deployment, as frozen values."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from viral_engine.errors import NotFoundError
from viral_engine.fly.app_settings import AppSettings
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import Machine, MachineState, Volume
from viral_engine.operations.blueprint import Place

UNSEEN = ""
"""The digest of a secret whose value the token may not see."""


@dataclass(frozen=True, slots=True)
class FoundApp:
    """One app; secrets as digests by name, addresses by their kinds."""

    machines: tuple[Machine, ...] = ()
    volumes: tuple[Volume, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict)
    addresses: frozenset[str] = frozenset()
    certificates: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Found:
    """The apps of a deployment that exist."""

    apps: Mapping[str, FoundApp] = field(default_factory=dict)

    def app(self, name: str) -> FoundApp:
        """Return an app, an empty one where it does not exist."""
        return self.apps.get(name, FoundApp())

    def machine(self, app: str, name: str) -> Machine | None:
        """Return a machine by its name."""
        return next((m for m in self.app(app).machines if m.name == name), None)

    @property
    def machines(self) -> tuple[Machine, ...]:
        """Every machine, whichever app it belongs to."""
        return tuple(machine for app in self.apps.values() for machine in app.machines)

    @property
    def primary_region(self) -> str | None:
        """Where the database is that passes the check of the primary's service; None for nowhere."""
        for machine in self.machines:
            if machine.role == "database" and serves_as_primary(machine):
                return machine.region
        return None


def serves_as_primary(machine: Machine) -> bool:
    """Whether a database machine passes the check of the primary's service."""
    return any(c.status == "passing" for c in machine.checks if c.name.startswith("servicecheck"))


def exit_code(machine: Machine) -> int | None:
    """With which code a machine that is stopped has ended; None where it has not, or not yet."""
    if machine.state is not MachineState.STOPPED:
        return None
    exits = (event.request or {} for event in machine.events if event.type == "exit")
    code: int | None = next(exits, {}).get("exit_event", {}).get("exit_code")
    return code


def digest(text: str) -> str:
    """A short fingerprint, which tells two secrets apart and no secret."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


async def observe(client: FlyClient, apps: Iterable[str]) -> Found:
    """Ask the platform about these apps, at once."""
    names = tuple(apps)
    found = await asyncio.gather(*(_observe_app(client, name) for name in names))
    return Found({name: app for name, app in zip(names, found, strict=True) if app is not None})


async def _observe_app(client: FlyClient, name: str) -> FoundApp | None:
    try:
        await client.get_app(name)
    except NotFoundError:
        return None
    settings = AppSettings(client)
    machines, volumes, secrets, addresses, certificates = await asyncio.gather(
        client.list_machines(name),
        client.list_volumes(name),
        settings.secrets(name),
        settings.addresses(name),
        settings.certificates(name),
    )
    return FoundApp(
        machines=tuple(sorted(machines, key=lambda m: m.name)),
        volumes=tuple(sorted(volumes, key=lambda v: (v.region, v.created_at, v.id))),
        secrets={s.name: UNSEEN if s.value is None else digest(s.value) for s in secrets},
        addresses=frozenset(address.kind for address in addresses),
        certificates=frozenset(certificates),
    )


def volume_of(found: Found, place: Place) -> str | None:
    """The volume of a machine: the one that it mounts, else its region's oldest."""
    machine = found.machine(place.app, place.name)
    if machine and machine.config.mounts:
        return machine.config.mounts[0].volume
    return next((v.id for v in found.app(place.app).volumes if v.region == place.region), None)
