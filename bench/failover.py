"""``make failover``: the headline drills, each several times on one globe, and the worst of each beside
what others have published.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

# Run by its path, so that only its own folder is importable.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.arm import VIRAL, Arm, BenchError, running
from bench.failover_report import HEADLINES, Headline, Run, page, run_of

OPTIONS = ("--regions", "iad,lhr", "--primary", "iad")
ENDS_WITHIN = 900.0


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run them; return 0 when every target was met and at most one run in ten is unknown."""
    options = parser().parse_args(arguments)
    chosen = [
        replace(one, runs=options.runs or one.runs)
        for one in HEADLINES
        if options.only in {None, one.name}
    ]
    with tempfile.TemporaryDirectory(prefix="viral-failover-") as scratch:
        keep = options.keep or Path(scratch) / "runs"
        keep.mkdir(parents=True, exist_ok=True)
        print("Start iad, lhr and a witness…", file=sys.stderr, flush=True)
        try:
            with running(OPTIONS, Path(scratch) / "home", environ, keep=False) as globe:
                found = {one.name: list(_runs(one, globe, options, keep)) for one in chosen}
        except BenchError as error:
            print(f"This cannot be measured here: {error}", file=sys.stderr)
            return 1
    lines, good = page([(one, found[one.name]) for one in chosen], options.rate, options.vus)
    print(*lines, sep="\n", flush=True)
    (keep / "failover.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0 if good else 1


def parser() -> argparse.ArgumentParser:
    """Return what the command line may say."""
    found = argparse.ArgumentParser(prog="failover", description="The headline drills, many times.")
    found.add_argument("--only", choices=[one.name for one in HEADLINES], help="one of them")
    found.add_argument("--runs", type=int, help="runs of each (9; of the long one 1)")
    found.add_argument(
        "--seed", type=int, default=1, help="of the first run; each has the next (1)"
    )
    found.add_argument("--rate", type=float, default=15.0, help="requests a second, in all (15)")
    found.add_argument("--vus", type=int, default=100, help="users at once, in all (100)")
    found.add_argument(
        "--keep", type=Path, metavar="DIR", help="leave every result there, and the table"
    )
    return found


def _runs(headline: Headline, globe: Arm, options: argparse.Namespace, keep: Path) -> Iterator[Run]:
    for seed in range(options.seed, options.seed + headline.runs):
        told = _drilled(headline, globe, options, seed)
        file = keep / f"{headline.name}-{seed}.json"
        file.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        run = run_of(told)
        print(f"  … {headline.name} {seed}: {run.sentence}", file=sys.stderr, flush=True)
        yield run


def _drilled(
    headline: Headline, globe: Arm, options: argparse.Namespace, seed: int
) -> Mapping[str, Any]:
    """Return the result of one drill; what could not be played at all is an error with its reason."""
    length = ("--duration", f"{headline.seconds:g}s") if headline.seconds else ()
    done = subprocess.run(
        [*VIRAL, "drill", headline.drill, "--json", "--seed", str(seed), "--rate", str(options.rate),
         "--vus", str(options.vus), *length],
        env=dict(globe.environ), capture_output=True, text=True, check=False, timeout=ENDS_WITHIN,
    )  # fmt: skip
    try:
        told: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        told = {"error": {"message": done.stderr[-300:] or f"it ended with {done.returncode}"}}
    return told


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
