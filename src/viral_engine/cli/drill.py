"""``viral drill``: break the deployment on purpose, under load, and judge what its users saw."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from viral_engine.cli.operate import who
from viral_engine.cli.output import command_errors, console, json_option, print_json, print_table
from viral_engine.cli.place import home_option, with_client
from viral_engine.errors import MisuseError, OperationError, OtherOperatorError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.extension import GlobeExtension
from viral_engine.globe.home import read_run_file
from viral_engine.nodes.binaries import Engines
from viral_engine.operations.drills.drill import Rig
from viral_engine.operations.drills.options import Options
from viral_engine.operations.drills.page import page
from viral_engine.operations.drills.repertoire import shipped, story_named
from viral_engine.operations.drills.result import Result, as_json, worst
from viral_engine.operations.drills.series import play_all
from viral_engine.operations.drills.story import Story
from viral_engine.operations.drills.verdict import Ruling
from viral_engine.operations.drills.workload_catalogue import WORKLOADS
from viral_engine.operations.operator_lock import Operator

ALL = "all"
USUAL = Options()
COLOURS = {Ruling.KEPT: "green", Ruling.BROKEN: "red", Ruling.UNKNOWN: "yellow"}


SHORTEST_S = 20.0


class Seconds(click.ParamType[float]):
    """A length of time: ``60``, ``60s`` or ``5m``; 20 s at least."""

    name = "TIME"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|)", str(value))
        if match is None:
            self.fail(f"{value!r} is no length of time, such as 60s or 5m", param, ctx)
        seconds = float(match[1]) * (60 if match[2] == "m" else 1)
        if seconds < SHORTEST_S:
            self.fail(f"{value} is too short: {SHORTEST_S:g}s at least", param, ctx)
        return seconds


@click.command()
@click.argument("name", required=False)
@click.option("--list", "listed", is_flag=True, help="Show every drill, with a sentence each.")
@click.option("--vus", type=click.IntRange(min=2), default=USUAL.vus, show_default=True,
              help="Users who wait at once, in all.")  # fmt: skip
@click.option("--rate", type=click.FloatRange(min=1), default=USUAL.rate, show_default=True,
              help="Requests a second, in all.")  # fmt: skip
@click.option("--duration", type=Seconds(), show_default="what the drill needs, 45s or more",
              help="How long the load lasts.")  # fmt: skip
@click.option("--seed", type=int, default=USUAL.seed, show_default=True,
              help="Of everything that is drawn.")  # fmt: skip
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write a page for people.")  # fmt: skip
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Leave every history and sample there.")  # fmt: skip
@home_option
@json_option
@command_errors
def drill(
    name: str | None, listed: bool, vus: int, rate: float, duration: float | None, seed: int,
    report: Path | None, keep: Path | None, home: Path, as_json: bool,
) -> None:  # fmt: skip
    """Break the globe as the drill NAME says, or as all of them do, and judge what its users saw."""
    stories = shipped()
    if listed:
        _show_all(stories, as_json=as_json)
        return
    if name is None:
        raise MisuseError("Which drill?", suggestion="One of viral drill --list, or all.")
    chosen = list(stories.values()) if name == ALL else [story_named(name, stories)]
    _refuse_page(report)
    options = Options(rate=rate, vus=vus, seconds=duration, seed=seed)
    with ExitStack() as stack:
        stack.enter_context(_alone(home, f"viral drill {name} by {who()}"))
        stack.enter_context(_undone_on_sigterm())
        folder = keep or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="viral-drill-"))
        )
        results = _played(home, chosen, stories, options, folder, name)
    facts = _facts(results, alone=name != ALL)
    if report is not None:
        report.write_text(page(facts), encoding="utf-8")
    if as_json:
        print_json(facts)
    else:
        _show(results)
    if worst(one.verdict for one in results) is not Ruling.KEPT:
        raise click.exceptions.Exit(1)


@contextmanager
def _alone(home: Path, words: str) -> Iterator[None]:
    """Keep other drills away from this globe; raises OtherOperatorError where one is under way."""
    if not home.is_dir():
        yield  # there is no globe, which is told in its place
        return
    with (home / "drill.lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise OtherOperatorError(
                f"Another drill is under way: {file.read().strip()}.",
                suggestion="Wait for its end: each would be judged by what the other breaks.",
            ) from error
        file.truncate(0)
        file.write(f"{words}, since {datetime.now(UTC).isoformat(timespec='seconds')}")
        file.flush()
        yield


@contextmanager
def _undone_on_sigterm() -> Iterator[None]:
    """Take SIGTERM, which CI and cron send, for the Ctrl-C that undoes every fault."""
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _refuse_page(report: Path | None) -> None:
    """Say before the drill, not after it, that its page could not be written."""
    if report is not None and not report.absolute().parent.is_dir():
        raise MisuseError(f"There is no folder {report.absolute().parent} for the page.")


def _played(
    home: Path, chosen: Sequence[Story], stories: Mapping[str, Story], options: Options,
    folder: Path, name: str,
) -> list[Result]:  # fmt: skip
    facts = read_run_file(home)
    k6 = Engines(os.environ).k6()

    async def play(client: FlyClient) -> list[Result]:
        rig = Rig(
            client=client, edges=facts["addresses"]["edges"],
            outside=lambda region: [
                sys.executable, "-m", "viral_engine.cli.main", "exec", "--home", str(home), region, "--",
            ],
            k6=k6, folder=folder, who=Operator(who(), f"viral drill {name}"), progress=Told(),
            workloads=WORKLOADS,
        )  # fmt: skip
        return await play_all(chosen, stories, options, rig)

    try:
        return with_client(home, play)
    except KeyboardInterrupt as error:
        with_client(home, lambda client: GlobeExtension(client).clear_faults())
        raise OperationError(
            "The drill was interrupted; every fault is undone.",
            suggestion="There is no verdict. Whether all is well again: viral status.",
        ) from error


@dataclass(frozen=True, slots=True)
class Told:
    """Says on stderr what happens in a drill."""

    def begun(self, step: str) -> None:
        """The beginning of a step is not said, its end is."""

    def done(self, step: str, seconds: float) -> None:
        """Say that a step is done."""
        console().print(f"    {step} ({seconds:.1f} s)", style="dim", markup=False)

    def seen(self, step: str, detail: str) -> None:
        """Say what happened."""
        console().print(f"  {step}: {detail}", style="dim", markup=False)


def _facts(results: Sequence[Result], *, alone: bool) -> dict[str, Any]:
    drills = [as_json(one) for one in results]
    if alone:
        found: dict[str, Any] = drills[0]
        return found
    return {"verdict": worst(one.verdict for one in results).value, "drills": drills}


def _show_all(stories: Mapping[str, Story], *, as_json: bool) -> None:
    if as_json:
        print_json([{"drill": one.name, "sentence": one.sentence, "catalogue": list(one.catalogue)}
                    for one in stories.values()])  # fmt: skip
    else:
        print_table(("DRILL", ""), [(one.name, one.sentence) for one in stories.values()])


def _show(results: Iterable[Result]) -> None:
    screen = console(err=False)
    for one in results:
        screen.print(f"\n[bold]{one.drill}[/]: [{COLOURS[one.verdict]}]{one.verdict}[/]", end="")
        screen.print(f" ({one.why})" if one.why else "", markup=False)
        screen.print(f"  {one.sentence}", markup=False)
        rto = "no write failed or waited" if one.rto_seconds is None else f"{one.rto_seconds:.2f} s"
        screen.print(
            f"  RTO {rto}; RPO {_or_unknown(one.rpo_writes)} writes; errors "
            f"{_share(one.error_rate)}, in the fault's window {_share(one.error_rate_in_window)}",
            markup=False,
        )
        print_table(
            ("  CHECK", "RULING", "MEASURED", "WANTED"),
            [(f"  {c.name}", c.ruling.value, c.measured, c.target) for c in one.checks],
        )


def _or_unknown(count: int | None) -> str:
    return "unknown" if count is None else str(count)


def _share(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.2%}"
