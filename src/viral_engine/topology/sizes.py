"""The sizes of machines that the platform has: how many CPUs, and how much memory goes with them."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from types import MappingProxyType

from viral_engine.errors import MisuseError
from viral_engine.topology.model import CpuKind, Guest

__all__ = ["CPUS", "MEMORY_MB_PER_CPU", "MEMORY_STEP_MB", "guest_of", "preset_of", "presets"]

CPUS: Mapping[CpuKind, tuple[int, ...]] = MappingProxyType(
    {
        CpuKind.SHARED: (1, 2, 4, 6, 8),
        CpuKind.PERFORMANCE: (1, 2, 4, 6, 8, 10, 12, 14, 16),
    }
)
MEMORY_MB_PER_CPU: Mapping[CpuKind, tuple[int, int]] = MappingProxyType(
    {CpuKind.SHARED: (256, 2048), CpuKind.PERFORMANCE: (2048, 8192)}
)
"""The least, which a preset has, and the most."""

MEMORY_STEP_MB = 256

_PREFIX = {CpuKind.SHARED: "shared-cpu", CpuKind.PERFORMANCE: "performance"}
_MEMORY = re.compile(r"(\d{1,6})(mb|gb)")


@functools.cache
def presets() -> Mapping[str, Guest]:
    """Return the platform's named sizes, each with the memory that is in its price."""
    return MappingProxyType(
        {
            f"{_PREFIX[kind]}-{cpus}x": Guest(
                cpu_kind=kind, cpus=cpus, memory_mb=cpus * MEMORY_MB_PER_CPU[kind][0]
            )
            for kind in CpuKind
            for cpus in CPUS[kind]
        }
    )


def preset_of(guest: Guest) -> str:
    """Return the name of the size with these CPUs, whatever its memory."""
    return f"{_PREFIX[guest.cpu_kind]}-{guest.cpus}x"


def guest_of(size: str) -> Guest:
    """Read a size such as "shared-cpu-1x", or "shared-cpu-1x:1gb" with more memory than it has.

    Raises MisuseError for a size that there is not; whether the memory fits is a rule of the
    deployment.
    """
    name, colon, memory = size.partition(":")
    found = presets().get(name)
    if found is None:
        raise MisuseError(f'no size "{name}"', suggestion=f"The sizes are: {', '.join(presets())}.")
    if not colon:
        return found
    match = _MEMORY.fullmatch(memory)
    if match is None:
        raise MisuseError(
            f'"{memory}" is no memory of a machine', suggestion=f"Write it as in: {name}:1gb"
        )
    megabytes = int(match[1]) * (1024 if match[2] == "gb" else 1)
    return Guest(cpu_kind=found.cpu_kind, cpus=found.cpus, memory_mb=megabytes)
