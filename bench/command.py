"""The command line of the bench, and what it leaves behind: nothing."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from bench.arm import BenchError
from bench.figures import State
from bench.measure import Plan, measure
from bench.report import as_json, lines, verdicts

from viral_engine.errors import ViralError


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Measure and tell; return 0 when the promise about reads was kept, else 1, and 2 for misuse."""
    parser = argparse.ArgumentParser(prog="bench", description="Measure one app in two regions.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="leave every figure here")
    parser.add_argument("--rate", type=int, default=50, help="reads per second and arm (50)")
    parser.add_argument("--seconds", type=int, default=20, help="measured for so long (20)")
    options = parser.parse_args(arguments)
    if options.rate < 1 or options.seconds < 1:
        parser.error("--rate and --seconds must be at least 1")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    plan = Plan(options.rate, options.seconds, warm_s=5)
    try:
        with tempfile.TemporaryDirectory(prefix="viral-bench-") as scratch:
            report = measure(plan, Path(scratch), environ, _say)
    except (BenchError, ViralError, LookupError) as error:
        _say(f"Nothing was measured: {error}")
        return 1
    for line in lines(report):
        print(line)
    if options.json:
        options.json.write_text(json.dumps(as_json(report), indent=2) + "\n", encoding="utf-8")
    return 0 if verdicts(report).reads.state is State.KEPT else 1


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _end(number: int, _: FrameType | None) -> None:
    """Leave by way of everything that has to be stopped."""
    sys.exit(128 + number)
