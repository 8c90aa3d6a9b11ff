"""The keys of a deployment file: each with the kind of its value."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType

from viral_engine.topology.kinds import (
    APP_NAME,
    ASGI_APP,
    BYTES,
    DATABASE_NAME,
    ENV_NAME,
    HOSTNAMES,
    PARAMETER_NAME,
    PARAMETER_VALUE,
    REGION,
    RESOURCE,
    TEXT,
    URL_PATH,
    WITNESS,
    Kind,
    choice,
    duration,
    numbers,
    whole,
)
from viral_engine.topology.model import (
    Consistency,
    CpuKind,
    Provider,
    Standby,
    Sticky,
    Strategy,
)

__all__ = ["KEYS", "NAMES", "Path"]

Path = tuple[str, ...]

_TICK = timedelta(milliseconds=100)
_MINUTE = timedelta(minutes=1)
_FIVE_MINUTES = timedelta(minutes=5)


def _by_path(keys: Mapping[str, Kind]) -> Mapping[Path, Kind]:
    return MappingProxyType({tuple(dotted.split(".")): kind for dotted, kind in keys.items()})


# A star stands for a name of the writer's choosing; NAMES says which names are allowed there.
KEYS = _by_path(
    {
        "app": APP_NAME,
        "primary_region": REGION,
        "strategy": choice(Strategy),
        "standby": choice(Standby),
        "witness": WITNESS,
        "regions.*.min": whole(0, 1000),
        "regions.*.max": whole(1, 1000),
        "regions.*.guest.cpu_kind": choice(CpuKind),
        "regions.*.guest.cpus": whole(1, 16),
        "regions.*.guest.memory_mb": whole(256, 131072),
        "consistency.*": choice(Consistency),
        "database.provider": choice(Provider),
        "database.name": DATABASE_NAME,
        "database.version": numbers(18),
        "database.volume_gb": whole(1, 500),
        "database.parameters.*": PARAMETER_VALUE,
        "cache.provider": choice(Provider),
        "cache.maxmemory": BYTES,
        "service.app": ASGI_APP,
        "service.internal_port": whole(1, 65535),
        "service.soft_limit": whole(1, 100000),
        "service.hard_limit": whole(1, 100000),
        "service.kill_timeout": duration(_TICK, _FIVE_MINUTES),
        "service.sticky": choice(Sticky),
        "service.hostnames": HOSTNAMES,
        "service.check.path": URL_PATH,
        "service.check.interval": duration(_TICK, _FIVE_MINUTES),
        "service.check.timeout": duration(_TICK, _MINUTE),
        "service.check.grace_period": duration(timedelta(0), _FIVE_MINUTES),
        "service.env.*": TEXT,
    }
)
NAMES = _by_path(
    {
        "regions": REGION,
        "consistency": RESOURCE,
        "database.parameters": PARAMETER_NAME,
        "service.env": ENV_NAME,
    }
)
