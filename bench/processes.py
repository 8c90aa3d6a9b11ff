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


def waits_in(schedstats: Iterable[str]) -> tuple[float, int] | None:
    """Sum over the threads of a process the seconds waited for a CPU, and how often it got one.

    None where the kernel tells of no thread.
    """
    told = [fields for text in schedstats if len(fields := text.split()) == 3]
    if not told:
        return None
    return sum(int(waited) for _, waited, _ in told) / 1e9, sum(int(turns) for *_, turns in told)


def idle_between(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Return the share of all CPUs that nobody used between two readings of their times."""
    # The kernel counts a guest's time a second time, as its host's user time.
    spent = {kind: after[kind] - before[kind] for kind in before if not kind.startswith("guest")}
    total = sum(spent.values())
    return (spent["idle"] + spent.get("iowait", 0.0)) / total if total else 0.0


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


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    cpu_s: float
    waits: tuple[float, int] | None


@dataclass(eq=False, slots=True)
class Watch:
    """Follows one process from its first look to the last one at which it still ran.

    A process that first has to become another program is followed from when it bears ``name``.
    """

    pid: int
    name: str | None = None
    _looks: list[_Look] = field(default_factory=list)

    def look(self) -> None:
        """Take note of what it has used so far; nothing once it is gone."""
        with suppress(psutil.Error, OSError):
            process = psutil.Process(self.pid)
            if self.name in {None, process.name()} and process.status() != psutil.STATUS_ZOMBIE:
                self._looks.append(_look(process))

    def effort(self) -> Effort:
        """What it used between the first look and the last; LookupError when it was never seen."""
        if not self._looks:
            raise LookupError(f"the process {self.pid} ended before it was looked at")
        first, last = self._looks[0], self._looks[-1]
        delay = waited = None
        if first.waits and last.waits:
            turns = max(last.waits[1] - first.waits[1], 1)
            waited = last.waits[0] - first.waits[0]
            delay = 1000 * waited / turns
        return Effort(last.at - first.at, last.cpu_s - first.cpu_s, delay, waited)


def _look(process: psutil.Process) -> _Look:
    folder = Path(f"/proc/{process.pid}/task")
    stats = [path.read_text(encoding="ascii") for path in folder.glob("*/schedstat")]
    times = process.cpu_times()
    return _Look(time.monotonic(), times.user + times.system, waits_in(stats))
