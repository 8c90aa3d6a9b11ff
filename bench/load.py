"""Loads on arms that run side by side: k6 where the users of a region are, at a stated rate."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from bench.arm import VIRAL, Arm, BenchError
from bench.figures import Measured, Quantiles, Seen
from bench.processes import Watch, hub_of, idle_between

SCRIPT = Path(__file__).parents[1] / "tests" / "load" / "k6-basic-load.js"
LOOK_EVERY = 0.1
STARTS_AND_ENDS_WITHIN = 60.0
THRESHOLD_MISSED = 99
"""What k6 ends with when one of its own thresholds was missed; ours are judged here."""

ANYCAST = "VIRAL_ANYCAST_URL"
DOOR = "VIRAL_URL"
"""Variables that ``viral exec`` sets: straight to the edges, and by way of a forwarder."""


@dataclass(frozen=True, slots=True)
class Load:
    """Requests a second, for how many seconds, from where and to which address."""

    region: str
    rate: int
    seconds: int
    write_ratio: float = 0.0
    address: str = ANYCAST

    @property
    def asked(self) -> int:
        """Requests in all."""
        return self.rate * self.seconds


@dataclass(frozen=True, slots=True)
class Target:
    """An arm and the region that should answer reads there."""

    arm: Arm
    reads_from: str


def k6_command(load: Load, k6: Path, summary: Path) -> list[str]:
    """Return the command that sends a load and leaves its figures in ``summary``."""
    settings = {
        "REGION": load.region,
        "RATE": load.rate,
        "DURATION": f"{load.seconds}s",
        "WRITE_RATIO": load.write_ratio,
        "SUMMARY": summary,
    }
    given = [part for name, value in settings.items() for part in ("-e", f"{name}={value}")]
    # The address is known only inside, where the shell reads it; then it becomes k6.
    inside = f'exec "$0" run --quiet --no-usage-report -e BASE_URL="${load.address}" "$@"'
    return [*VIRAL, "exec", load.region, "--", "sh", "-c", inside, str(k6), *given, str(SCRIPT)]


def seen_in(summary: str) -> Seen:
    """Read the figures that the load script leaves."""
    told = json.loads(summary)
    return Seen(
        reads=_quantiles(told["reads"]),
        writes=_quantiles(told["writes"]),
        read_by=told["reads"]["served_by"],
        written_by=told["writes"]["served_by"],
        failed=told["failed"],
        dropped=told["dropped_iterations"],
    )


def _quantiles(told: Mapping[str, Any]) -> Quantiles:
    if not told["count"]:  # k6 tells zeros of what never was
        return Quantiles(0, None, None, None, None)
    return Quantiles(told["count"], told["p50_ms"], told["p95_ms"], told["p99_ms"], told["max_ms"])


def together(load: Load, targets: Sequence[Target], k6: Path, scratch: Path) -> list[Measured]:
    """Put the same load on all targets at once and return what was measured of each, in order.

    Raises BenchError when k6 cannot run.
    """
    with ExitStack() as stack:
        runs = [
            stack.enter_context(_running(load, target, k6, scratch / f"k6-{number}"))
            for number, target in enumerate(targets)
        ]
        before = psutil.cpu_times()._asdict()
        deadline = time.monotonic() + load.seconds + STARTS_AND_ENDS_WITHIN
        while any(run.process.poll() is None for run in runs):
            if time.monotonic() > deadline:
                raise BenchError("k6 does not end")
            for run in runs:
                run.look()
            time.sleep(LOOK_EVERY)
        idle = idle_between(before, psutil.cpu_times()._asdict())
        return [run.measured(load, target, idle) for run, target in zip(runs, targets, strict=True)]


@dataclass(frozen=True, slots=True)
class _Run:
    process: subprocess.Popen[bytes]
    summary: Path
    said: Path
    k6: Watch
    hub: Watch

    def look(self) -> None:
        if self.process.poll() is None:
            self.k6.look()
            self.hub.look()

    def measured(self, load: Load, target: Target, idle: float) -> Measured:
        if self.process.returncode not in {0, THRESHOLD_MISSED} or not self.summary.exists():
            said = self.said.read_text(encoding="utf-8")[-2000:]
            raise BenchError(f"k6 failed with {self.process.returncode}: {said}")
        seen = seen_in(self.summary.read_text(encoding="utf-8"))
        return Measured(
            load.asked, target.reads_from, seen, self.k6.effort(), self.hub.effort(), idle
        )


@contextmanager
def _running(load: Load, target: Target, k6: Path, folder: Path) -> Iterator[_Run]:
    folder.mkdir(exist_ok=True)
    summary, said = folder / "summary.json", folder / "said"
    summary.unlink(missing_ok=True)
    with said.open("w") as out:
        process = subprocess.Popen(
            k6_command(load, k6, summary), env=dict(target.arm.environ), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=out,
        )  # fmt: skip
    try:
        yield _Run(process, summary, said, Watch(process.pid, "k6"), Watch(hub_of(target.arm.pid)))
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
