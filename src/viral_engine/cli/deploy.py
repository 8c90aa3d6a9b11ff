"""``viral deploy``: makes what runs be what viral.toml says."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from viral_engine.cli.operate import dry_run_option, refuse_unasked, who, yes_option
from viral_engine.cli.output import command_errors, console, json_option
from viral_engine.cli.place import home_option
from viral_engine.cli.plan import NOTHING, planned, show
from viral_engine.cli.steps import JsonSteps, steps_for
from viral_engine.cli.target import Target, options_of
from viral_engine.errors import OperationError
from viral_engine.fly.app_settings import AppSettings
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import Certificate
from viral_engine.operations.blueprint import Blueprint
from viral_engine.operations.deploy import Deploy
from viral_engine.operations.deploy.databases import PatroniDatabases
from viral_engine.operations.deploy.dns import records
from viral_engine.operations.operator_lock import Operator
from viral_engine.operations.progress import Progress

Outcome = tuple[int, list[Certificate]]


@click.command()
@options_of
@yes_option
@dry_run_option
@home_option
@json_option
@command_errors
def deploy(
    to: str, file: Path | None, image: str | None, org: str, yes: bool, dry_run: bool,
    home: Path, as_json: bool,
) -> None:  # fmt: skip
    """Change what runs until it is what viral.toml says; typed again, it goes on where it was."""
    refuse_unasked(yes=yes or dry_run, as_json=as_json)
    target = Target(to, home, file, image, org)
    found = target.run(planned)
    if dry_run or not as_json:
        show(found, as_json=as_json)
    else:
        JsonSteps().write({"event": "plan", **found.facts()})
    if dry_run:
        return
    if found.stages and not yes:
        click.confirm(f"Make {plural(len(found.changes))}?", abort=True, err=True)
    steps = steps_for(as_json=as_json)
    with closing(steps):
        try:
            done = target.run(lambda client, wanted: _deployed(client, wanted, target, steps))
        except KeyboardInterrupt as error:
            raise OperationError(
                "It was interrupted; what was done stays done.",
                suggestion=f"Typed again, it finishes what is left: viral deploy{target.words}",
            ) from error
    _tell(done, as_json=as_json)


async def _deployed(
    client: FlyClient, blueprint: Blueprint, target: Target, steps: Progress
) -> Outcome:
    databases = PatroniDatabases(client, steps)
    operator = Operator(who(), "viral deploy")
    deploying = Deploy(
        client, blueprint, databases, operator, steps, org=target.org, edges=target.edges()
    )
    await deploying.run()
    app, settings = blueprint.deployment.app, AppSettings(client)
    hostnames = blueprint.deployment.service.hostnames
    shown = [await settings.certificate(app, hostname) for hostname in hostnames]
    return len(deploying.done), [one for one in shown if one is not None]


def _tell(done: Outcome, *, as_json: bool) -> None:
    changed, certificates = done
    rows = [row for one in certificates if not one.configured for row in records(one)]
    if as_json:
        JsonSteps().write(
            {"event": "now", "changed": changed, "dns": [row.facts() for row in rows]}
        )
        return
    screen = console(err=False)
    screen.print(f"Now: {plural(changed)} made, and nothing left to do." if changed else NOTHING,
                 markup=False)  # fmt: skip
    if rows:
        screen.print("These records are still missing in the DNS of your hostnames:", markup=False)
        for row in rows:
            screen.print(f"  {row.sentence}", markup=False)


def plural(changes: int) -> str:
    """So many changes, in words."""
    return f"{changes} change{'' if changes == 1 else 's'}"
