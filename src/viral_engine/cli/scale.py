"""``viral scale``: how many app machines a region has, and of which size."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from viral_engine.cli.deploy import plural
from viral_engine.cli.operate import dry_run_option, refuse_unasked, who, yes_option
from viral_engine.cli.output import command_errors, console, json_option, print_json, print_table
from viral_engine.cli.place import home_option
from viral_engine.cli.plan import show
from viral_engine.cli.steps import JsonSteps, steps_for
from viral_engine.cli.target import Target, file_option, image_option, to_option
from viral_engine.errors import OperationError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import MachineState
from viral_engine.operations.blueprint import Blueprint
from viral_engine.operations.deploy import Plan
from viral_engine.operations.operator_lock import Operator
from viral_engine.operations.scaling.apply import make_so, planned
from viral_engine.operations.scaling.wanted import named, scaled
from viral_engine.operations.scaling.written import lines, rewritten
from viral_engine.topology.model import Deployment
from viral_engine.topology.sizes import preset_of


@click.command()
@click.argument("counts", nargs=-1, metavar="[COUNTS]...")
@click.option("--size", metavar="SIZE", help="Of machines: shared-cpu-1x, or performance-2x:8gb.")
@click.option("--region", "sized", multiple=True, metavar="REGION",
              help="Where that size is meant; may be repeated.")  # fmt: skip
@click.option("--write", is_flag=True, help="Write it into viral.toml, where comments stay.")
@to_option
@file_option
@image_option
@yes_option
@dry_run_option
@home_option
@json_option
@command_errors
def scale(
    counts: tuple[str, ...], size: str | None, sized: tuple[str, ...], write: bool, to: str,
    file: Path | None, image: str | None, yes: bool, dry_run: bool, home: Path, as_json: bool,
) -> None:  # fmt: skip
    """Have so many app machines, as in iad=2..10 lhr=3: at least and at most, or exactly.

    Without anything to change it shows what each region has.
    """
    target = Target(to, home, file, image, takes_running=True)
    if not (counts or size or sized):
        _show_numbers(target.run(_numbers), as_json=as_json)
        return
    refuse_unasked(yes=yes or dry_run, as_json=as_json)

    async def decided(client: FlyClient, declared: Blueprint) -> tuple[Deployment, Plan]:
        wanted = scaled(declared.deployment, counts, size=size, sized=sized)
        blueprint = replace(declared, deployment=wanted)
        return wanted, await planned(client, blueprint, named(wanted, counts, sized))

    wanted, plan = target.run(decided)
    regions = named(wanted, counts, sized)
    _show_plan(plan, lines(wanted, regions), write=write, dry_run=dry_run, as_json=as_json)
    if dry_run:
        return
    if not yes:
        click.confirm(f"Make {plural(len(plan.changes))}?", abort=True, err=True)
    if write:
        _write(target.source(), wanted, regions)
    _apply(target, wanted, regions, as_json=as_json)


def _apply(target: Target, wanted: Deployment, regions: tuple[str, ...], *, as_json: bool) -> None:
    steps = steps_for(as_json=as_json)

    async def made(client: FlyClient, declared: Blueprint) -> int:
        return await make_so(
            client, replace(declared, deployment=wanted), regions,
            operator=Operator(who(), "viral scale"), progress=steps, edges=target.edges(),
        )  # fmt: skip

    with closing(steps):
        try:
            changed = target.run(made)
        except KeyboardInterrupt as error:
            raise OperationError(
                "It was interrupted; what was done stays done.",
                suggestion="Typed again, the same command does what is left.",
            ) from error
    if isinstance(steps, JsonSteps):
        steps.write({"event": "now", "changed": changed})
    else:
        console(err=False).print(f"Now: {plural(changed)} made.", markup=False)


def _write(file: Path, wanted: Deployment, regions: tuple[str, ...]) -> None:
    try:
        text = file.read_bytes().decode() if file.exists() else ""
        file.write_bytes(rewritten(text, wanted, regions).encode())
    except OSError as error:
        raise OperationError(f"{file} cannot be written: {error.strerror}.") from error


def _show_plan(plan: Plan, text: str, *, write: bool, dry_run: bool, as_json: bool) -> None:
    facts = {**plan.facts(), "viral_toml": text}
    if as_json and dry_run:
        print_json(facts)
    elif as_json:
        JsonSteps().write({"event": "plan", **facts})
    else:
        show(plan, as_json=False)
        screen = console(err=False)
        said = "viral.toml will say" if write else "A deploy goes by viral.toml, which should say"
        screen.print(f"{said}:", markup=False)
        screen.print("".join(f"  {line}\n" for line in text.splitlines()), markup=False, end="")


async def _numbers(client: FlyClient, blueprint: Blueprint) -> list[dict[str, Any]]:
    deployment = blueprint.deployment
    machines = [m for m in await client.list_machines(deployment.app) if m.role == "app"]
    return [
        {
            "region": plan.code, "min": plan.min, "max": plan.max,
            "machines": sum(m.region == plan.code for m in machines),
            "started": sum(
                m.region == plan.code and m.state is MachineState.STARTED for m in machines
            ),
            "size": preset_of(plan.guest), "memory_mb": plan.guest.memory_mb,
        }
        for plan in deployment.regions
    ]  # fmt: skip


def _show_numbers(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    columns = ("REGION", "MIN", "MAX", "MACHINES", "STARTED", "SIZE", "MEMORY MB")
    print_table(columns, [tuple(str(value) for value in row.values()) for row in rows])
