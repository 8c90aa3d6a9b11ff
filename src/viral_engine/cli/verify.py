"""``viral verify``: whether the deployment does what it should, from every region, in one table."""

from __future__ import annotations

from pathlib import Path

import click

from viral_engine.cli.output import command_errors, json_option, print_json, print_table
from viral_engine.cli.place import home_option
from viral_engine.cli.target import Target, file_option, to_option
from viral_engine.errors import MisuseError
from viral_engine.fly.client import FlyClient
from viral_engine.operations.blueprint import Blueprint
from viral_engine.operations.deploy.found import observe
from viral_engine.operations.drills.verdict import Ruling
from viral_engine.operations.verifying import Asker, Doors, Inside, Line, Verification, probe_of
from viral_engine.operations.verifying.verify import serving
from viral_engine.topology.model import Deployment


@click.command()
@to_option
@file_option
@click.option("--region", "regions", multiple=True, metavar="REGION",
              help="Only from there; may be repeated.")  # fmt: skip
@click.option("--no-write", is_flag=True, help="Ask nothing that changes anything.")
@click.option("--read", "reads", metavar="PATH", help="Of your own app: a path that reads.")
@click.option("--write", "writes", metavar="PATH",
              help="Of your own app: a path where an empty POST does no harm.")  # fmt: skip
@click.option("--strict", is_flag=True, help="Exit with 1 also where something is unknown.")
@home_option
@json_option
@command_errors
def verify(
    to: str, file: Path | None, regions: tuple[str, ...], no_write: bool, reads: str | None,
    writes: str | None, strict: bool, home: Path, as_json: bool,
) -> None:  # fmt: skip
    """See from every region who answers reads and writes, and whether what should hold does."""
    for path in (reads, writes):
        if path is not None and not path.startswith("/"):
            raise MisuseError(f'"{path}" is no path', suggestion="Write it as in: --read /notes")
    target = Target(to, home, file, None, takes_running=True)

    async def look(client: FlyClient, blueprint: Blueprint) -> list[Line]:
        deployment = blueprint.deployment
        return await Verification(
            client=client,
            deployment=deployment,
            probe=probe_of(deployment, reads=reads, writes=writes, may_write=not no_write),
            asker=await _asker(client, deployment, target),
            regions=_chosen(deployment, regions),
            issues_certificates=to == "fly",
        ).run()

    lines = target.run(look)
    verdict = worst(lines)
    if as_json:
        print_json({"verdict": verdict.value, "checks": [line.facts() for line in lines]})
    else:
        _show(lines)
    if verdict is Ruling.BROKEN or (strict and verdict is not Ruling.KEPT):
        raise click.exceptions.Exit(1)


def _chosen(deployment: Deployment, regions: tuple[str, ...]) -> tuple[str, ...]:
    for code in regions:
        if code not in deployment.region_codes:
            raise MisuseError(
                f"{code} is not among the regions ({', '.join(deployment.region_codes)})"
            )
    return tuple(dict.fromkeys(regions)) or deployment.region_codes


async def _asker(client: FlyClient, deployment: Deployment, target: Target) -> Asker:
    if target.to == "globe":
        return Doors(target.edges())
    found = await observe(client, (deployment.app,))
    machines = {machine.region: machine.id for machine in serving(found, deployment.app)}
    names = deployment.service.hostnames
    host = names[0] if names else f"{deployment.app}.fly.dev"
    return Inside(client, deployment.app, machines, f"https://{host}")


def worst(lines: list[Line]) -> Ruling:
    """Broken if one is, else unknown if one is."""
    rulings = {line.ruling for line in lines}
    return next((one for one in (Ruling.BROKEN, Ruling.UNKNOWN) if one in rulings), Ruling.KEPT)


def _show(lines: list[Line]) -> None:
    print_table(
        ("CHECK", "REGION", "RULING", "ANSWERED BY", "MS", "ROUTE", "SEEN", "WANTED"),
        [
            (line.check, line.region or "-", line.ruling.value, line.answered_by or "-",
             "-" if line.latency_ms is None else f"{line.latency_ms:.0f}", line.route or "-",
             line.seen, line.wanted)
            for line in lines
        ],
    )  # fmt: skip
    count = [sum(line.ruling is one for line in lines) for one in Ruling]
    click.echo(f"\n{count[0]} kept, {count[1]} broken, {count[2]} unknown.")
