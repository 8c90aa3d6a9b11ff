"""``make drills``: break a deployment on purpose and judge what its users saw; each with a control."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

# Run by its path, so that only its own folder is importable.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.arm import BenchError, running

from viral_engine.errors import NotFoundError, UnsupportedError, ViralError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.extension import GlobeExtension
from viral_engine.operations.drills.clients import Book
from viral_engine.operations.drills.history import Operation, Recorder, read_history
from viral_engine.operations.drills.report import ArmReport, arm_report, write_gap
from viral_engine.operations.drills.stories import Stage
from viral_engine.operations.drills.stories_register import (
    BlackHolePlan,
    black_hole,
    judge_black_hole,
    stakes_of_black_hole,
)
from viral_engine.operations.drills.stories_sessions import (
    MovesPlan,
    judge_moves,
    moves,
    stakes_of_moves,
)
from viral_engine.operations.drills.verdict import Ruling, Verdict, judge

T = TypeVar("T")

OPTIONS = ("--regions", "iad,lhr", "--primary", "iad")
UNFENCED = {"VIRAL_PRIMACY": "off"}
HISTORY, LOGS = "history.jsonl", "machines.jsonl"


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the drills; return 0 when every one kept what it promises and its control was caught."""
    options = _parser().parse_args(arguments)
    runs = {"register": _register, "sessions": _sessions}
    with tempfile.TemporaryDirectory(prefix="viral-drills-") as scratch:
        folder = options.keep or Path(scratch)
        verdicts = []
        for name in [options.only] if options.only else list(runs):
            try:
                verdict = runs[name](options, folder / name, environ)
            except (BenchError, NotFoundError, UnsupportedError) as error:
                verdict = Verdict(Ruling.UNKNOWN, why=f"this drill cannot be run here: {error}")
            except (ViralError, ExceptionGroup) as error:
                why = f"the story did not come to its end: {_said(error)}"
                verdict = Verdict(Ruling.UNKNOWN, why=why)
            print(f"{name}: {verdict.ruling}{f' ({verdict.why})' if verdict.why else ''}\n")
            verdicts.append(verdict)
    return 0 if all(verdict.ruling is Ruling.KEPT for verdict in verdicts) else 1


def _said(error: Exception) -> str:
    """Return what went wrong; of a group of tasks, what went wrong in each."""
    if isinstance(error, ExceptionGroup):
        return "; ".join(map(_said, error.exceptions))
    return str(error) or type(error).__name__


def _parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="drills", description="Break it and judge what was seen.")
    found.add_argument("--only", choices=("register", "sessions"), help="one of them")
    found.add_argument("--arm", choices=("on", "off"), help="register: only with primacy on or off")
    found.add_argument("--seconds", type=float, default=6.0, help="length of each calm part (6)")
    found.add_argument("--seed", type=int, default=0, help="of the clients' choices (0)")
    found.add_argument("--keep", type=Path, metavar="DIR", help="leave histories and reports here")
    return found


def _register(options: argparse.Namespace, folder: Path, environ: Mapping[str, str]) -> Verdict:
    calm = timedelta(seconds=options.seconds)
    reports = {}
    for arm, more in (("on", {}), ("off", UNFENCED)):
        if options.arm in {None, arm}:
            report = _black_hole(
                f"register, primacy {arm}", folder / arm, {**environ, **more},
                replace(BlackHolePlan(), calm=calm), options.seed,
            )  # fmt: skip
            reports[arm] = report
    if "on" not in reports:
        return Verdict(Ruling.UNKNOWN, why="only the control arm was run")
    control = reports["off"].verdict if "off" in reports else None
    return judge(reports["on"].verdict, control, at_stake=reports["on"].at_stake)


def _black_hole(
    name: str, folder: Path, environ: Mapping[str, str], plan: BlackHolePlan, seed: int
) -> ArmReport:
    async def play(stage: Stage, book: Book) -> ArmReport:
        played = await black_hole(stage, book, plan, seed=seed)
        history = read_history(folder / HISTORY)
        return arm_report(
            name, judge_black_hole(history, played), history,
            at_stake=stakes_of_black_hole(history, played), marks=stage.marks,
            gap=write_gap(history, regions=frozenset(stage.edges) - {played.lost},
                          since=played.cut_at),
        )  # fmt: skip

    return _told(_on_a_globe(play, folder, environ), folder)


def _sessions(options: argparse.Namespace, folder: Path, environ: Mapping[str, str]) -> Verdict:
    plan = replace(MovesPlan(), calm=timedelta(seconds=options.seconds))

    async def play(stage: Stage, book: Book) -> tuple[ArmReport, ArmReport]:
        played = await moves(stage, book, plan, seed=options.seed)
        history = read_history(folder / HISTORY)

        def report(name: str, arm: Sequence[Operation], *, dropped: bool) -> ArmReport:
            return arm_report(
                f"sessions, {name}", judge_moves(history, played, dropped=dropped), arm,
                at_stake=stakes_of_moves(history, played), marks=stage.marks,
                gap=write_gap(arm, regions=frozenset(stage.edges) - {played.lost},
                              since=played.cut_at),
            )  # fmt: skip

        kept = [one for one in history if not one.token_dropped]
        dropping = [one for one in history if one.token_dropped]
        return report("tokens kept", kept, dropped=False), report(
            "tokens dropped", dropping, dropped=True
        )

    experiment, control = _on_a_globe(play, folder, environ)
    _told(experiment, folder)
    (folder / "control").mkdir(exist_ok=True)
    _told(control, folder / "control")
    return judge(experiment.verdict, control.verdict, at_stake=experiment.at_stake)


def _on_a_globe(
    play: Callable[[Stage, Book], Coroutine[Any, Any, T]], folder: Path, environ: Mapping[str, str]
) -> T:
    """Start a globe for one arm, play the story in it, and leave nothing but the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="viral-drill-") as scratch:
        home = Path(scratch) / "home"
        _say(f"Start {OPTIONS[1]}…")
        with running(OPTIONS, home, environ, keep=False):
            facts = json.loads((home / "run.json").read_text(encoding="utf-8"))
            return asyncio.run(_played(play, facts, folder))


async def _played(
    play: Callable[[Stage, Book], Coroutine[Any, Any, T]], facts: Mapping[str, Any], folder: Path
) -> T:
    addresses = facts["addresses"]
    async with FlyClient(addresses["api"], facts["token"]) as client:
        stage = Stage(client, addresses["edges"], _say)
        with (folder / HISTORY).open("w", encoding="utf-8") as file:
            try:
                return await play(stage, Book(Recorder(file)))
            finally:
                await _keep_logs(client, folder / LOGS)


async def _keep_logs(client: FlyClient, file: Path) -> None:
    with file.open("w", encoding="utf-8") as lines:
        async for line in GlobeExtension(client).logs():
            lines.write(json.dumps(line) + "\n")


def _told(report: ArmReport, folder: Path) -> ArmReport:
    report.write(folder)
    print(*report.lines(), sep="\n", flush=True)
    return report


def _say(sentence: str) -> None:
    print(f"  … {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
