"""A deployment as frozen values: what should run where, and with which promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from viral_engine.topology.witness import choose_witness

__all__ = [
    "BUNDLED_APP",
    "DEFAULT_APP_NAME",
    "Cache",
    "Check",
    "Consistency",
    "CpuKind",
    "Database",
    "Deployment",
    "Guest",
    "Provider",
    "RegionPlan",
    "Service",
    "Standby",
    "Sticky",
    "Strategy",
    "default_consistency",
    "default_deployment",
]

BUNDLED_APP = "viral_engine.service.app:app"
DEFAULT_APP_NAME = "viral-engine"


class Strategy(StrEnum):
    """Which regions take traffic."""

    ACTIVE_ACTIVE = "active-active"
    ACTIVE_PASSIVE = "active-passive"


class Standby(StrEnum):
    """How the app machines of the other regions stand by where one region serves."""

    STARTED = "started"
    STOPPED = "stopped"


class Consistency(StrEnum):
    """What was declared for a resource.

    ``strict`` is ``strong``, and refuses writes while only one region holds the data.
    """

    EVENTUAL = "eventual"
    STRONG = "strong"
    STRICT = "strict"

    @property
    def is_strong(self) -> bool:
        """Whether a read must see every write that was acknowledged before it began."""
        return self is not Consistency.EVENTUAL

    def at_least(self, other: Consistency) -> Consistency:
        """Return the one that promises more."""
        order = list(Consistency)
        return max(self, other, key=order.index)


class Sticky(StrEnum):
    """What a session keeps to while it can: nothing, its region, or its machine."""

    OFF = "off"
    REGION = "region"
    MACHINE = "machine"


class Provider(StrEnum):
    """Who runs the databases, or the caches."""

    VIRAL = "viral"
    EXTERNAL = "external"


class CpuKind(StrEnum):
    """The platform's two kinds of CPU: slices of one, or whole ones."""

    SHARED = "shared"
    PERFORMANCE = "performance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """The size of a machine."""

    cpu_kind: CpuKind = CpuKind.SHARED
    cpus: int = 1
    memory_mb: int = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionPlan:
    """How many app machines a region has: ``min`` always run, never more than ``max``."""

    code: str
    min: int = 1
    max: int = 1
    guest: Guest = field(default_factory=Guest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """The database: one machine per region with a volume, PostgreSQL's major ``version``.

    Where somebody else runs it there are no such machines and no witness.

    ``parameters`` are PostgreSQL settings on top of what the product sets itself.
    """

    provider: Provider = Provider.VIRAL
    name: str = "viral_engine"
    version: int = 18
    volume_gb: int = 10
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """The Redis-compatible store: one machine a region, or somebody else's; ``maxmemory`` in bytes."""

    provider: Provider = Provider.VIRAL
    maxmemory: int = 64 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The health check of an app machine: a GET that must answer 2xx within ``timeout``.

    Failures do not count during the ``grace_period`` after a start.
    """

    path: str = "/api/health"
    interval: timedelta = timedelta(seconds=5)
    timeout: timedelta = timedelta(seconds=2)
    grace_period: timedelta = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The ASGI app (``module:attr``), its port, its limits in concurrent requests a machine.

    ``soft_limit`` is where the edge starts to prefer another machine, ``hard_limit`` where it
    sends nothing more; ``kill_timeout`` is the time to drain before SIGKILL. ``sticky`` is what a
    session keeps to; ``hostnames`` get certificates where the platform issues any.
    """

    app: str = BUNDLED_APP
    internal_port: int = 8080
    soft_limit: int = 200
    hard_limit: int = 250
    kill_timeout: timedelta = timedelta(seconds=30)
    sticky: Sticky = Sticky.OFF
    hostnames: tuple[str, ...] = ()
    check: Check = field(default_factory=Check)
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What should run where; every region in ``regions`` also has a database and a cache.

    ``primary_region`` is one of ``regions``; ``witness`` is none of them, or None where an odd
    number of regions has its majority without one.
    """

    app: str
    primary_region: str
    regions: tuple[RegionPlan, ...]
    witness: str | None
    strategy: Strategy = Strategy.ACTIVE_ACTIVE
    standby: Standby = Standby.STARTED
    consistency: Mapping[str, Consistency] = field(default_factory=dict)
    database: Database = field(default_factory=Database)
    cache: Cache = field(default_factory=Cache)
    service: Service = field(default_factory=Service)

    @property
    def region_codes(self) -> tuple[str, ...]:
        """The data regions, in the order of their declaration."""
        return tuple(plan.code for plan in self.regions)

    @property
    def all_codes(self) -> tuple[str, ...]:
        """The data regions, then the witness's where there is one."""
        return (*self.region_codes, *([self.witness] if self.witness else []))

    def plan(self, code: str) -> RegionPlan:
        """Return the plan of a data region; KeyError for any other code."""
        for plan in self.regions:
            if plan.code == code:
                return plan
        raise KeyError(code)


DEFAULT_REGIONS = (RegionPlan(code="iad", min=2, max=10), RegionPlan(code="lhr", min=3, max=5))


def default_consistency(app: str) -> dict[str, Consistency]:
    """Return what holds where nothing was declared: the bundled app's own, else nothing."""
    if app != BUNDLED_APP:
        return {}
    strong = dict.fromkeys(("users", "organizations", "billing"), Consistency.STRONG)
    return strong | dict.fromkeys(("tasks", "metrics", "audit_logs"), Consistency.EVENTUAL)


def default_deployment() -> Deployment:
    """Return what runs where there is no viral.toml: the task service in iad and lhr."""
    return Deployment(
        app=DEFAULT_APP_NAME,
        primary_region=DEFAULT_REGIONS[0].code,
        regions=DEFAULT_REGIONS,
        witness=choose_witness([plan.code for plan in DEFAULT_REGIONS]),
        consistency=default_consistency(BUNDLED_APP),
    )
