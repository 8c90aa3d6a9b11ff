"""Open-loop load by k6: one beside every region, as its users, for the length of a drill."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import psutil

from viral_engine.errors import OperationError
from viral_engine.operations.drills.samples import MIX, Sample, read_samples, with_dropped

__all__ = ["Effort", "LoadPlan", "Running", "under_users"]

ENDS_WITHIN_S = 60.0
LOOK_EVERY_S = 0.5

Outside = Callable[[str], Sequence[str]]
"""Returns the beginning of a command line that runs what follows where a region's users are."""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """``rate`` requests a second and at most ``vus`` at once, shared alike by all regions.

    ``places`` are the paths that are read; ``run`` begins the name of everything that is written.
    """

    regions: Sequence[str]
    rate: float
    vus: int
    seconds: float
    run: str
    places: Sequence[str]

    @property
    def each(self) -> float:
        """Requests a second of one region's users: a whole number a minute, as k6 takes it."""
        return round(60 * self.rate / len(self.regions)) / 60

    @property
    def scheduled(self) -> int:
        """Requests in all."""
        return round(self.each * self.seconds) * len(self.regions)

    def settings(self, region: str) -> Mapping[str, str]:
        """What the script of one region is told."""
        return {
            "REGION": region, "RATE": str(self.each), "SECONDS": str(self.seconds),
            "VUS": str(max(1, self.vus // len(self.regions))), "RUN": self.run,
            "PLACES": json.dumps(list(self.places)), "KINDS": json.dumps(MIX),
        }  # fmt: skip


_YIELDING = ("idle", "iowait", "nice")


@dataclass(frozen=True, slots=True)
class Effort:
    """The largest share of a core that a generator used, and of all CPUs what nobody needed.

    What goes to processes of the lowest priority (nice) counts as that: they give way.
    """

    generator: float
    idle: float


@dataclass(slots=True)
class Running:
    """The load while it runs and, once it has ended, what its users saw."""

    plan: LoadPlan
    folder: Path
    zero: int
    """The beginning of the load, on the history's clock (ns)."""
    zero_ms: float
    """The same on the clock of the scripts."""
    began: Mapping[str, float]
    """The times of all CPUs then."""
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    _cpu: dict[str, float] = field(default_factory=dict)

    async def ended(self) -> None:
        """Wait until every generator has ended; raises OperationError for one that failed."""
        deadline = time.monotonic() + self.plan.seconds + ENDS_WITHIN_S
        while any(process.returncode is None for process in self.processes.values()):
            if time.monotonic() > deadline:
                raise OperationError("The load does not end.")
            self._look()
            await asyncio.sleep(LOOK_EVERY_S)
        for region, process in self.processes.items():
            if process.returncode:
                said = (self.folder / f"k6-{region}.err").read_text(encoding="utf-8")[-500:]
                raise OperationError(
                    f"The load of {region} ended with {process.returncode}: {said}"
                )

    def effort(self) -> Effort:
        """Return what it took, to now."""
        now = psutil.cpu_times()._asdict()
        spent = {kind: now[kind] - self.began[kind] for kind in now if not kind.startswith("guest")}
        total = sum(spent.values()) or 1.0
        wall = (time.monotonic_ns() - self.zero) / 1e9
        return Effort(
            generator=round(max(self._cpu.values(), default=0.0) / wall, 3),
            idle=round(sum(spent.get(kind, 0.0) for kind in _YIELDING) / total, 3),
        )

    def samples(self) -> list[Sample]:
        """Return every request of every region, those that were dropped too."""
        plan, found = self.plan, []
        for region in plan.regions:
            lines = (self.folder / f"k6-{region}.jsonl").read_text(encoding="utf-8").splitlines()
            seen = read_samples(lines, region=region, rate=plan.each, zero_ms=self.zero_ms)
            found += with_dropped(seen, region=region, rate=plan.each, seconds=plan.seconds)
        return sorted(found, key=lambda one: one.due)

    def _look(self) -> None:
        for region, process in self.processes.items():
            with suppress(psutil.Error):
                times = psutil.Process(process.pid).cpu_times()
                self._cpu[region] = times.user + times.system


@asynccontextmanager
async def under_users(
    plan: LoadPlan, *, k6: Path, outside: Outside, folder: Path
) -> AsyncIterator[Running]:
    """Run the load beside the block; what still runs at its end is killed."""
    began = psutil.cpu_times()._asdict()
    running = Running(plan, folder, time.monotonic_ns(), time.time_ns() / 1e6, began)
    script = resources.files(__package__).joinpath("load.js")
    try:
        with resources.as_file(script) as path:
            for region in plan.regions:
                command = [*outside(region), str(k6), *_arguments(plan, region, path, folder)]
                running.processes[region] = await _started(command, folder / f"k6-{region}.err")
            yield running
    finally:
        for process in running.processes.values():
            if process.returncode is None:
                process.kill()
            await process.wait()


def _arguments(plan: LoadPlan, region: str, script: Path, folder: Path) -> list[str]:
    samples = folder / f"k6-{region}.jsonl"
    samples.unlink(missing_ok=True)  # it would be written on
    settings = plan.settings(region).items()
    given = [word for name, value in settings for word in ("-e", f"{name}={value}")]
    return [
        "run", "--quiet", "--no-usage-report", "--no-summary", "--include-system-env-vars",
        "--log-format", "raw", "--console-output", str(samples), *given, str(script),
    ]  # fmt: skip


async def _started(command: Sequence[str], said: Path) -> asyncio.subprocess.Process:
    with said.open("wb") as err:
        return await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=err, start_new_session=True,
        )  # fmt: skip
