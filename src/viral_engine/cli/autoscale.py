"""``viral autoscale``: as many app machines in each region as its load asks for."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from viral_engine.cli.operate import dry_run_option, who
from viral_engine.cli.output import command_errors, console, json_option
from viral_engine.cli.place import home_option
from viral_engine.cli.target import Target, file_option, image_option, to_option
from viral_engine.fly.client import FlyClient
from viral_engine.operations.blueprint import Blueprint
from viral_engine.operations.operator_lock import Operator
from viral_engine.operations.scaling import Policy
from viral_engine.operations.scaling.autoscaler import Autoscaler, Happening
from viral_engine.topology.kinds import WrongValueError, duration

USUAL = Policy()
HOUR = timedelta(hours=1)


class Time(click.ParamType[timedelta]):
    """A length of time such as 15s or 5m, from ``least`` to an hour."""

    name = "TIME"

    def __init__(self, least: timedelta) -> None:
        self._kind = duration(least, HOUR)

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return it; a default comes as what it is."""
        if isinstance(value, timedelta):
            return value
        try:
            found = self._kind.read(value)
        except WrongValueError:
            self.fail(f"{value!r} is not {self._kind.allowed}", param, ctx)
        assert isinstance(found, timedelta)
        return found


@click.command()
@click.option("--once", is_flag=True, help="Watch for one interval, decide by that alone, and end.")
@dry_run_option
@click.option("--interval", type=Time(timedelta(seconds=1)), default="15s", show_default=True,
              help="Between two looks.")  # fmt: skip
@click.option("--target", type=click.FloatRange(0.05, 1), default=USUAL.target, show_default=True,
              help="The share of its soft limit that a machine should carry.")  # fmt: skip
@click.option("--headroom", type=click.IntRange(0, 100), default=USUAL.headroom, show_default=True,
              help="Machines that run beyond what the load needs.")  # fmt: skip
@click.option("--cooldown", type=Time(timedelta(0)), default="60s", show_default=True,
              help="After a change in a region, before the next.")  # fmt: skip
@click.option("--low-for", type=Time(timedelta(0)), default="5m", show_default=True,
              help="How long the load must have been low before machines go.")  # fmt: skip
@to_option
@file_option
@image_option
@home_option
@json_option
@command_errors
def autoscale(
    once: bool, dry_run: bool, interval: timedelta, target: float, headroom: int,
    cooldown: timedelta, low_for: timedelta, to: str, file: Path | None, image: str | None,
    home: Path, as_json: bool,
) -> None:  # fmt: skip
    """Keep the app machines of each region in step with its measured load, until Ctrl-C.

    Between min and max of viral.toml; databases, witness and caches are never touched.
    """
    place = Target(to, home, file, image, takes_running=True)
    policy = Policy(
        target=target, headroom=headroom, cooldown_s=cooldown.total_seconds(),
        low_for_s=(min(low_for, interval) if once else low_for).total_seconds(),
    )  # fmt: skip

    async def keep(client: FlyClient, blueprint: Blueprint) -> None:
        autoscaler = Autoscaler(
            client, blueprint, policy, Operator(who(), "viral autoscale"),
            tell=lambda one: _tell(one, as_json=as_json), edges=place.edges(), dry_run=dry_run,
        )  # fmt: skip
        await autoscaler.run(interval, once=once)

    try:
        place.run(keep)
    except KeyboardInterrupt:
        console().print("Nothing is scaled any more; what runs goes on.", markup=False)


def _tell(one: Happening, *, as_json: bool) -> None:
    at = datetime.now(UTC)
    if as_json:
        said = {"event": one.event, "at": at.isoformat(timespec="milliseconds"), **one.facts}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        return
    style = {"load": "dim", "failed": "red", "blind": "yellow"}.get(one.event)
    console(err=False).print(f"{at:%H:%M:%S} {one.sentence}", style=style, markup=False)
