"""``viral cost``: what a month costs, what a change would save, and what there really is."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import click

from viral_engine.cli.cost_report import Report, document, show
from viral_engine.cli.output import command_errors, json_option, print_json
from viral_engine.cli.place import home_option, with_client
from viral_engine.cli.target import Origin, fly_client, to_option
from viral_engine.errors import MisuseError
from viral_engine.globe.home import read_run_file
from viral_engine.operations.cost import Assumptions, Inventory, estimate
from viral_engine.operations.cost.inventory import found
from viral_engine.operations.cost.suggestions import suggestions
from viral_engine.operations.cost.what_if import what_if
from viral_engine.topology.load import load, load_folder
from viral_engine.topology.model import Deployment
from viral_engine.topology.prices import prices


@click.command()
@click.option("--with", "with_", multiple=True, metavar="REGION=COUNT",
              help="With so many app machines there, as in syd=1 or syd=1..5.")  # fmt: skip
@click.option("--without", multiple=True, metavar="REGION", help="Without that region.")
@click.option("--size", "sizes", multiple=True, metavar="SIZE",
              help="With app machines of that size: shared-cpu-1x:1gb, or lhr=performance-1x.")  # fmt: skip
@click.option("--assume", multiple=True, metavar="NAME=VALUE",
              help="Assume another amount, as in requests_per_second=50.")  # fmt: skip
@click.option("--budget", metavar="DOLLARS", help="Exit with 1 when the month costs more.")
@click.option("--actual", is_flag=True, help="Count what the platform really has, too.")
@to_option
@click.option("--file", "-f", type=click.Path(path_type=Path, dir_okay=False),
              help="Default: viral.toml of this folder; with --actual, what viral up read.")  # fmt: skip
@home_option
@json_option
@command_errors
def cost(
    with_: tuple[str, ...], without: tuple[str, ...], sizes: tuple[str, ...],
    assume: tuple[str, ...], budget: str | None, actual: bool, to: str,
    file: Path | None, home: Path, as_json: bool,
) -> None:  # fmt: skip
    """Estimate what the deployment costs in a month, by region and part, and what would cost less."""
    limit = _dollars(budget)
    assumptions = Assumptions().assume(assume)
    if to == "fly" and not actual:
        raise MisuseError(
            "--to says where --actual counts", suggestion="Write both: --actual --to fly"
        )
    deployment = _deployment(file, home if actual and to == "globe" else None)
    changed = bool(with_ or without or sizes)
    wanted = what_if(deployment, with_=with_, without=without, sizes=sizes)
    there = _found(deployment, to, home) if actual else None
    known = prices()
    report = Report(
        deployment=wanted,
        prices=known,
        assumptions=assumptions,
        now=estimate(wanted, known, assumptions),
        ceiling=estimate(wanted, known, assumptions.assume(["load=1"])),
        before=estimate(deployment, known, assumptions) if changed else None,
        actual=estimate(deployment, known, assumptions, there) if there else None,
        suggestions=suggestions(wanted, known, assumptions),
        budget=limit,
    )
    if as_json:
        print_json(document(report))
    else:
        show(report)
    if report.over_budget:
        raise click.exceptions.Exit(1)


def _dollars(text: str | None) -> Decimal | None:
    if text is None:
        return None
    digits = text.removeprefix("$")
    if not digits.replace(".", "", 1).isdecimal():
        raise MisuseError(
            f'the budget is "{text}"', suggestion="Write US dollars a month, as in: --budget 200"
        )
    return Decimal(digits)


def _deployment(file: Path | None, home: Path | None) -> Deployment:
    """Return what is declared: for a globe that runs from ``home``, what it was started with."""
    if file is not None:
        return load(file)
    if home is not None:
        return Origin(**read_run_file(home)["origin"]).deployment()
    return load_folder(Path.cwd())


def _found(deployment: Deployment, to: str, home: Path) -> Inventory:
    if to == "globe":
        return with_client(home, lambda client: found(client, deployment))

    async def ask() -> Inventory:
        async with fly_client() as client:
            return await found(client, deployment)

    return asyncio.run(ask())
