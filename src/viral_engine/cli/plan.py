"""``viral plan``: what a deploy would change, and why."""

from __future__ import annotations

from pathlib import Path

import click

from viral_engine.cli.operate import Plan as AnyPlan
from viral_engine.cli.output import command_errors, console, json_option, print_json
from viral_engine.cli.place import home_option
from viral_engine.cli.target import Target, options_of
from viral_engine.fly.client import FlyClient
from viral_engine.operations.blueprint import Blueprint, apps
from viral_engine.operations.deploy import Plan, diff, observe
from viral_engine.operations.deploy.changes import (
    UpdateMachine,
)

NOTHING = "Nothing to do: what runs is what viral.toml says."


@click.command()
@options_of
@click.option("--check", is_flag=True, help="Exit with 1 where there is something to do.")
@home_option
@json_option
@command_errors
def plan(
    to: str, file: Path | None, image: str | None, org: str, check: bool, home: Path, as_json: bool
) -> None:
    """Show what would change so that what runs is what viral.toml says."""
    found = Target(to, home, file, image, org).run(planned)
    show(found, as_json=as_json)
    if check and found.stages:
        raise click.exceptions.Exit(1)


async def planned(client: FlyClient, blueprint: Blueprint) -> Plan:
    """Observe the platform and decide."""
    return diff(blueprint, await observe(client, apps(blueprint.deployment)))


def show(found: Plan, *, as_json: bool) -> None:
    """Show a plan: each change with its reason, what differs below it, and what is left alone."""
    if as_json:
        print_json(found.facts())
        return
    screen = console(err=False)
    if not found.stages:
        screen.print(NOTHING, markup=False)
    for number, change in enumerate(found.changes, start=1):
        screen.print(f"{number}. {change.sentence} ({change.reason})", markup=False)
        if isinstance(change, UpdateMachine) and len(change.differences) > 1:
            for difference in change.differences:
                screen.print(f"     {difference.sentence}", markup=False)
    show_notes(found)


def show_notes(found: AnyPlan) -> None:
    """Show what is otherwise and stays so."""
    screen = console(err=False)
    for note in found.warnings:
        screen.print("[yellow]![/] ", end="")
        screen.print(note, markup=False)
