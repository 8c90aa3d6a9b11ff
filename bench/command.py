"""The command line of the bench, and what it leaves behind: nothing."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

from bench import consistency, consistency_report, growth, handler, measure, report
from bench.arm import BenchError
from bench.outcome import Outcome

from viral_engine.errors import ViralError

Say = Callable[[str], None]
Bench = Callable[[argparse.Namespace, Path, Mapping[str, str], Say], Outcome]


def _regions(
    options: argparse.Namespace, scratch: Path, environ: Mapping[str, str], say: Say
) -> Outcome:
    plan = measure.Plan(options.rate, options.seconds, warm_s=5)
    return report.outcome(measure.measure(plan, scratch, environ, say))


def _handler(
    _options: argparse.Namespace, scratch: Path, environ: Mapping[str, str], say: Say
) -> Outcome:
    return handler.measure(scratch, environ, say, handler.Plan())


def _own_writes(
    _options: argparse.Namespace, scratch: Path, environ: Mapping[str, str], say: Say
) -> Outcome:
    found = consistency.measure(scratch, environ, say, consistency.Plan())
    return consistency_report.outcome(found)


def _growth(
    _options: argparse.Namespace, scratch: Path, environ: Mapping[str, str], say: Say
) -> Outcome:
    return growth.measure(scratch, environ, say, growth.Plan())


BENCHES: Mapping[str, Bench] = {
    "regions": _regions,
    "handler": _handler,
    "own-writes": _own_writes,
    "growth": _growth,
}


def parser() -> argparse.ArgumentParser:
    """Return what the command line may say."""
    found = argparse.ArgumentParser(prog="bench", description="Measure it beside what it replaces.")
    found.add_argument(
        "--only", action="append", choices=list(BENCHES), help="one of them; again for more"
    )
    found.add_argument("--json", type=Path, metavar="FILE", help="leave every figure here")
    found.add_argument("--rate", type=int, default=50, help="regions: reads a second and arm (50)")
    found.add_argument("--seconds", type=int, default=20, help="regions: measured for so long (20)")
    return found


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Measure and tell; return 0 when every promise was kept, else 1, and 2 for misuse."""
    reads = parser()
    options = reads.parse_args(arguments)
    if options.rate < 1 or options.seconds < 1:
        reads.error("--rate and --seconds must be at least 1")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    found = [_measured(name, options, environ) for name in options.only or BENCHES]
    if options.json:
        told = {one.name: one.as_json() for one in found if one}
        options.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return 0 if all(one and one.kept for one in found) else 1


def _measured(name: str, options: argparse.Namespace, environ: Mapping[str, str]) -> Outcome | None:
    """Run one benchmark and print what it tells; None where it could not be run."""
    try:
        with tempfile.TemporaryDirectory(prefix="viral-bench-") as scratch:
            found = BENCHES[name](options, Path(scratch), environ, _say)
    except (BenchError, ViralError, LookupError) as error:
        _say(f"{name}: nothing was measured: {error}")
        return None
    print(*found.lines(), "", sep="\n", flush=True)
    return found


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _end(number: int, _: FrameType | None) -> None:
    """Leave by way of everything that has to be stopped."""
    sys.exit(128 + number)
