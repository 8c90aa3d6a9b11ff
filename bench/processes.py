"""What the processes of a globe use: memory by part, CPU, and time spent waiting for a CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from bench.figures import Effort

HUB = "viral_engine.globe.network.hub"

PARTS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("hub", lambda line: HUB in line),
    ("inits", lambda line: "globe/machines/init.py" in line),
    ("patroni", lambda line: "patroni_start" in line or "-m patroni" in line),
    ("app", lambda line: " node app" in line),
    ("supervisors", lambda line: " node " in line),
    ("globe", lambda line: " up " in f"{line} " and "viral_engine" in line),
)
BINARIES = {"postgres": "postgres", "etcd": "etcd", "envoy": "envoy", "valkey-server": "valkey"}


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes by part; ``by_rss`` counts processes whose shared pages could not be divided."""

    by_part: Mapping[str, int]
    processes: int
    by_rss: int

    @property
    def total(self) -> int:
        """Bytes of the whole globe."""
        return sum(self.by_part.values())


def part_of(command: tuple[str, ...]) -> str:
    """Name the part of the globe that a command line belongs to, or ``other``."""
    if not command:
        return "other"
    # PostgreSQL's children call themselves "postgres: ..." in place of their path.
    binary = Path(command[0].split(": ")[0].split(" ")[0]).name.rstrip(":")
    if binary in BINARIES:
        return BINARIES[binary]
    line = " ".join(command)
    return next((part for part, belongs in PARTS if belongs(line)), "other")


def pss_in(smaps_rollup: str) -> int | None:
    """Return the bytes of the line ``Pss:``, or None without one."""
    for line in smaps_rollup.splitlines():
        name, _, rest = line.partition(":")
        if name == "Pss":
            return int(rest.split()[0]) * 1024
    return None


def waited_in(schedstats: Iterable[str]) -> float | None:
    """Sum the seconds that the threads of a process waited for a CPU; None for no threads."""
    waits = [int(fields[1]) for text in schedstats if len(fields := text.split()) == 3]
    return sum(waits) / 1e9 if waits else None


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and all that descend from it."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def hub_of(pid: int) -> int:
    """Return the pid of the simulated network of the globe that runs as ``pid``."""
    for process in tree(pid):
        with suppress(psutil.Error):
            if part_of(tuple(process.cmdline())) == "hub":
                return process.pid
    raise LookupError(f"the globe {pid} has no simulated network: it does not run in wan mode")


def memory_of(pid: int) -> Memory:
    """Measure a globe: the proportional share of each process, its resident size where hidden."""
    by_part: dict[str, int] = {}
    count = by_rss = 0
    for process in tree(pid):
        with suppress(psutil.NoSuchProcess):
            part = part_of(tuple(process.cmdline()))
            size = _pss(process.pid)
            if size is None:
                size = process.memory_info().rss
                by_rss += 1
            by_part[part] = by_part.get(part, 0) + size
            count += 1
    ordered = dict(sorted(by_part.items(), key=lambda pair: -pair[1]))
    return Memory(ordered, count, by_rss)


def _pss(pid: int) -> int | None:
    try:
        return pss_in(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"))
    except OSError:
        return None


@dataclass(eq=False, slots=True)
class Watch:
    """Follows one process from its first look to the last one at which it still ran.

    A process that first has to become another program is followed from when it bears ``name``.
    """

    pid: int
    name: str | None = None
    _first: tuple[float, float, float | None] | None = None
    _last: tuple[float, float, float | None] = field(default=(0.0, 0.0, None))

    def look(self) -> None:
        """Take note of what it has used so far; nothing once it is gone."""
        with suppress(psutil.Error, OSError):
            process = psutil.Process(self.pid)
            if self.name is not None and process.name() != self.name:
                return
            times = process.cpu_times()
            waited = waited_in(
                path.read_text(encoding="ascii")
                for path in Path(f"/proc/{self.pid}/task").glob("*/schedstat")
            )
            if waited is None and self._last[2] is not None:
                return  # its threads are ending
            self._last = (time.monotonic(), times.user + times.system, waited)
            self._first = self._first or self._last

    def effort(self) -> Effort:
        """What it used between the first look and the last."""
        began, ended = self._first or self._last, self._last
        waited = None if began[2] is None or ended[2] is None else ended[2] - began[2]
        return Effort(ended[1] - began[1], waited, ended[0] - began[0])
