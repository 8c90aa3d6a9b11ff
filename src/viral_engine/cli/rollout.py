"""``viral rollout``: a new version of the app, wave by wave of regions, judged by its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from viral_engine.cli.autoscale import Time
from viral_engine.cli.operate import dry_run_option, refuse_unasked, who, yes_option
from viral_engine.cli.output import command_errors, console, json_option, print_json
from viral_engine.cli.place import home_option
from viral_engine.cli.rollout_terms import APP_VARIABLE, Share, milliseconds, version
from viral_engine.cli.steps import JsonSteps, Steps, steps_for
from viral_engine.cli.target import Target, file_option, to_option
from viral_engine.errors import OperationError
from viral_engine.fly.client import FlyClient
from viral_engine.nodes.app_import import check_import
from viral_engine.operations.blueprint import Blueprint
from viral_engine.operations.deploy.databases import PatroniDatabases
from viral_engine.operations.operator_lock import Operator
from viral_engine.operations.rollout import (
    Objective,
    Options,
    Rollout,
    RolloutPlan,
    Strategy,
    Version,
    parse_waves,
)

T = TypeVar("T")

STRATEGIES = [one.value for one in Strategy]


@click.command()
@click.option("--image", metavar="IMAGE", help="The image of the new version.")
@click.option("--app", metavar="MODULE:ATTRIBUTE", help="The app of the new version.")
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE",
              help="A variable of it; NAME alone unsets one; may be repeated.")  # fmt: skip
@click.option("--strategy", type=click.Choice(STRATEGIES), default="rolling", show_default=True,
              help="How the machines of a wave get it.")  # fmt: skip
@click.option("--waves", metavar="WAVES", help='Which regions when: "iad / lhr,nrt".')
@click.option("--bake", type=Time(timedelta(0)), default="60s", show_default=True,
              help="How long a wave is watched before it is passed.")  # fmt: skip
@click.option("--max-error-rate", type=Share(), default="1%", show_default=True,
              help="Of a wave's answers, those of 500 and above.")  # fmt: skip
@click.option("--max-p95", type=Time(timedelta(milliseconds=1)), default="500ms", show_default=True,
              help="Within which 95% of a wave's answers begin.")  # fmt: skip
@click.option("--allow-quiet", is_flag=True, help="Go on where too few requests came to judge by.")
@click.option("--back", is_flag=True, help="Undo what was begun and has not passed.")
@to_option
@file_option
@yes_option
@dry_run_option
@home_option
@json_option
@command_errors
def rollout(
    image: str | None, app: str | None, variables: tuple[str, ...], strategy: str,
    waves: str | None, bake: timedelta, max_error_rate: float, max_p95: timedelta,
    allow_quiet: bool, back: bool, to: str, file: Path | None, yes: bool, dry_run: bool,
    home: Path, as_json: bool,
) -> None:  # fmt: skip
    """Bring a new version to all app machines, region after region, and undo it where it is bad."""
    refuse_unasked(yes=yes or dry_run, as_json=as_json)
    asked = Asked(
        Version() if back else version(image, app, variables),
        Options(Strategy(strategy), parse_waves(waves) if waves else None, bake.total_seconds()),
        Objective(max_error_rate, milliseconds(max_p95)),
        allow_quiet,
        Target(to, home, file, None, takes_running=True),
        steps_for(as_json=as_json),
    )
    if back:
        _back(asked, yes=yes, dry_run=dry_run, as_json=as_json)
        return
    plan = asked.run(_planned)
    _show(plan.steps, plan.facts(), plan.warnings, alone=dry_run, as_json=as_json)
    if dry_run or not plan.stages:
        return
    if not yes:
        click.confirm(f"Roll out {plan.version}?", abort=True, err=True)
    _tell(asked.carried_out(_rolled_out), as_json=as_json)


@dataclass(frozen=True, slots=True)
class Asked:
    """What was typed."""

    version: Version
    options: Options
    objective: Objective
    quiet_is_well: bool
    target: Target
    steps: Steps

    def run(self, work: Callable[[Rollout], Awaitable[T]]) -> T:
        """Do something with the rollout; raises ViralError."""

        async def run(client: FlyClient, blueprint: Blueprint) -> T:
            operator = Operator(who(), "viral rollout")
            return await work(Rollout(
                client, blueprint, PatroniDatabases(client, self.steps), operator, self.steps,
                self.version, self.options, self.objective, self.target.edges(), self.quiet_is_well,
            ))  # fmt: skip

        return self.target.run(run)

    def carried_out(self, work: Callable[[Rollout], Awaitable[T]]) -> T:
        """Do it with its progress shown; an interruption is an OperationError with the next step."""
        with closing(self.steps):
            try:
                return self.run(work)
            except KeyboardInterrupt as error:
                raise OperationError(
                    "It was interrupted; what was done stays done.",
                    suggestion="Typed again, it goes on where it was. Undo what was begun with: "
                    "viral rollout --back",
                ) from error


async def _planned(rollout: Rollout) -> RolloutPlan:
    app = rollout.version.env.get(APP_VARIABLE)
    if app is not None and rollout.edges:  # on a globe it is run from a folder of this machine
        await asyncio.to_thread(check_import, app, Path(rollout.blueprint.app_folder))
    return await rollout.plan()


async def _rolled_out(rollout: Rollout) -> dict[str, Any]:
    plan = await rollout.run()
    rows = [{"regions": list(wave), **ruling.facts()} for wave, ruling in rollout.rulings]
    return {"version": plan.version, "waves": rows}


def _back(asked: Asked, *, yes: bool, dry_run: bool, as_json: bool) -> None:
    steps = [one.sentence for one in asked.run(lambda rollout: rollout.steps_back()) if one.said]
    _show(tuple(steps), {"steps": steps}, (), alone=dry_run, as_json=as_json)
    if dry_run:
        return
    if not yes:
        click.confirm("Undo the rollout?", abort=True, err=True)
    asked.carried_out(lambda rollout: rollout.back())
    if as_json:
        JsonSteps().write({"event": "now", "version": None, "waves": []})
    else:
        console(err=False).print("Now: what was begun is undone.", markup=False)


def _show(
    steps: tuple[str, ...], facts: dict[str, Any], warnings: tuple[str, ...], *, alone: bool,
    as_json: bool,
) -> None:  # fmt: skip
    if as_json and alone:
        print_json(facts)
    elif as_json:
        JsonSteps().write({"event": "plan", **facts})
    else:
        screen = console(err=False)
        for note in warnings:
            screen.print("[yellow]![/] ", end="")
            screen.print(note, markup=False)
        for number, sentence in enumerate(steps, start=1):
            screen.print(f"{number}. {sentence}", markup=False)
        if not steps:
            screen.print("Nothing to do: every app machine runs it.", markup=False)


def _tell(done: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        JsonSteps().write({"event": "now", **done})
        return
    screen = console(err=False)
    for wave in done["waves"]:
        screen.print(f"  {', '.join(wave['regions'])}: {wave['reason']}", markup=False)
    screen.print(f"Now: every app machine runs {done['version']}.", markup=False)
    screen.print(
        "Write it down where deploys look (viral.toml, or their --image), or the next undoes it.",
        markup=False,
    )
