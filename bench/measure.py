"""The whole measurement: what is started, loaded and asked, in which order."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import psutil
from bench.arm import Start, running
from bench.figures import Measured
from bench.load import DOOR, Load, Target, together
from bench.processes import Memory, memory_of

from viral_engine import __version__
from viral_engine.globe.world import GlobeSpec
from viral_engine.nodes.binaries import Engines
from viral_engine.topology.rtt import round_trip_ms

HOME, AWAY = "iad", "lhr"
NEAR = ("--regions", f"{HOME},{AWAY}", "--primary", HOME)
FAR = ("--regions", HOME, "--primary", HOME, "--users", AWAY)

WRITES_PER_S, OTHER_S = 5, 10
"""Writes inform only: few, so that the reads' caches and the machine stay as they were."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How hard and how long reads are measured, in each arm."""

    rate: int
    seconds: int
    warm_s: int


@dataclass(frozen=True, slots=True)
class Pair:
    """The same load on both arms at the same time."""

    load: Load
    near: Measured
    far: Measured


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that one run found."""

    plan: Plan
    machine: Mapping[str, Any]
    round_trip_ms: float
    cold: Start
    again: Start
    far_cold: Start
    pairs: Mapping[str, Pair]
    memory: Memory


def measure(
    plan: Plan, scratch: Path, environ: Mapping[str, str], say: Callable[[str], None]
) -> Report:
    """Measure both arms in data folders below ``scratch``; raises BenchError when one fails."""
    near_home, far_home = scratch / "near", scratch / "far"
    say(f"Start {HOME}+{AWAY} from nothing…")
    with running(NEAR, near_home, environ, keep=True) as arm:
        cold = arm.start
    say("Start it again on its data…")
    with running(NEAR, near_home, environ, keep=False) as near:
        machine = describe(near.ask("status"))
        say(f"Start the same app in {HOME} alone…")
        with running(FAR, far_home, environ, keep=False) as far:
            targets = (Target(near, AWAY), Target(far, HOME))
            pairs = _loads(plan, targets, Engines(environ).k6(), scratch, say)
            far_cold = far.start
        # Alone again: a page that both globes map would count by half.
        memory = memory_of(near.pid)
        say("Stop and clean up…")
        again = near.start
    distance = round_trip_ms(HOME, AWAY)
    return Report(plan, machine, distance, cold, again, far_cold, pairs, memory)


def _loads(
    plan: Plan, targets: tuple[Target, Target], k6: Path, scratch: Path, say: Callable[[str], None]
) -> dict[str, Pair]:
    reads = Load(AWAY, plan.rate, plan.seconds)
    loads = {
        "reads": reads,
        "reads by the door": Load(AWAY, plan.rate, OTHER_S, address=DOOR),
        "writes": Load(AWAY, WRITES_PER_S, OTHER_S, write_ratio=1.0),
    }
    say(f"Warm both up for {plan.warm_s} s…")
    together(Load(AWAY, plan.rate, plan.warm_s), targets, k6, scratch)
    found = {}
    for name, load in loads.items():
        say(f"Measure {name}: {load.rate}/s for {load.seconds} s on both at once…")
        near, far = together(load, targets, k6, scratch)
        found[name] = Pair(load, near, far)
    return found


def describe(status: Mapping[str, Any]) -> dict[str, Any]:
    """Name all that the figures depend on: the machine, the versions and the network."""
    return {
        "viral-engine": __version__,
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "engines": {name: told["version"] for name, told in status["engines"].items()},
        "network": status["network"],
        "network_reason": status["network_reason"],
        "rtt_factor": status["rtt_factor"],
        "network_seed": next(one.default for one in fields(GlobeSpec) if one.name == "seed"),
    }


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line)
    return next(named, platform.machine())
