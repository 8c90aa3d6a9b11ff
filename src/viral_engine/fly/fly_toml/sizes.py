"""The sizes that a machine can have, as fly.toml says them: presets, CPUs and memory."""

from __future__ import annotations

import re

from viral_engine.fly.fly_toml.file import FlyToml, Section
from viral_engine.topology.model import CpuKind, Guest
from viral_engine.topology.sizes import MEMORY_MB_PER_CPU, guest_of, presets

__all__ = ["size_fault", "smallest_cpus"]

_MEMORY = re.compile(r"(\d+)\s*(mb?|gb?|mib|gib)?", re.IGNORECASE)


def smallest_cpus(file: FlyToml) -> int:
    """Return the fewest CPUs that a machine of the file has; 1 where it does not say."""
    return min((_guest(one).cpus for one in file.guests), default=1)


def size_fault(section: Section) -> tuple[str, str] | None:
    """Return the key and what is wrong, for a size that no machine has; else None."""
    size = section.text("size")
    if size and size not in presets():
        return "size", f'no size "{size}"; there are {", ".join(presets())}'
    kind = section.text("cpu_kind")
    if kind and kind not in list(CpuKind):
        return "cpu_kind", f'cpu_kind is "shared" or "performance", not "{kind}"'
    guest = _guest(section)
    low, high = (guest.cpus * mb for mb in MEMORY_MB_PER_CPU[guest.cpu_kind])
    if guest.memory_mb and not low <= guest.memory_mb <= high:
        key = next(name for name in ("memory", "memory_mb", "size") if name in section.table)
        return key, (
            f"a {guest.cpu_kind} machine with {guest.cpus} CPUs has {low} to {high} MB, "
            f"got {guest.memory_mb}"
        )
    return None


def _guest(section: Section) -> Guest:
    """Return what a section means; 0 MB where it does not say."""
    size = section.text("size")
    base = guest_of(size) if size in presets() else Guest(memory_mb=0)
    kind = section.text("cpu_kind")
    return Guest(
        cpu_kind=CpuKind(kind) if kind in list(CpuKind) else base.cpu_kind,
        cpus=section.whole("cpus") or base.cpus,
        memory_mb=section.whole("memory_mb") or _memory_mb(section) or base.memory_mb,
    )


def _memory_mb(section: Section) -> int:
    match = _MEMORY.fullmatch(str(section.table.get("memory", "")))
    if match is None:
        return 0
    gigabytes = (match[2] or "mb").lower().startswith("g")
    return int(match[1]) * (1024 if gigabytes else 1)
