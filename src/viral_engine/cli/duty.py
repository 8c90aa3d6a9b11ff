"""``viral cordon``, ``uncordon``, ``drain``, ``stop`` and ``start``: which machines serve."""

from __future__ import annotations

import click

from viral_engine.cli.operate import Operation, carry_out, dry_run_option, yes_option
from viral_engine.cli.output import command_errors, json_option
from viral_engine.cli.site import Site, site_options
from viral_engine.operations.change_duty import change_duty
from viral_engine.operations.duty import Act, DutyPlan, plan_duty

force_option = click.option("--force", is_flag=True, help="Although something speaks against it.")


def _run(
    act: Act, target: str, site: Site, *, force: bool, yes: bool, dry_run: bool, as_json: bool
) -> None:
    operation = Operation(
        words=f"{act} {target}",
        plan=lambda formation: plan_duty(formation, act, target, force=force),
        apply=change_duty,
        ask=_ask,
    )
    carry_out(operation, site, yes=yes, dry_run=dry_run, as_json=as_json)


def _ask(plan: DutyPlan) -> None:
    click.confirm(f"{plan.act.capitalize()} {plan.target}?", abort=True, err=True)


@click.command()
@click.argument("target")
@force_option
@dry_run_option
@site_options
@json_option
@command_errors
def cordon(target: str, force: bool, dry_run: bool, site: Site, as_json: bool) -> None:
    """Take a region or a machine, TARGET, out of the edges' reach; it runs on."""
    _run(Act.CORDON, target, site, force=force, yes=True, dry_run=dry_run, as_json=as_json)


@click.command()
@click.argument("target")
@dry_run_option
@site_options
@json_option
@command_errors
def uncordon(target: str, dry_run: bool, site: Site, as_json: bool) -> None:
    """Let the edges reach a region or a machine, TARGET, again."""
    _run(Act.UNCORDON, target, site, force=False, yes=True, dry_run=dry_run, as_json=as_json)


@click.command()
@click.argument("target")
@force_option
@dry_run_option
@site_options
@json_option
@command_errors
def drain(target: str, force: bool, dry_run: bool, site: Site, as_json: bool) -> None:
    """Cordon a region or a machine, TARGET, and wait until its requests have ended."""
    _run(Act.DRAIN, target, site, force=force, yes=True, dry_run=dry_run, as_json=as_json)


@click.command()
@click.argument("target")
@force_option
@yes_option
@dry_run_option
@site_options
@json_option
@command_errors
def stop(target: str, force: bool, yes: bool, dry_run: bool, site: Site, as_json: bool) -> None:
    """Cordon, drain and stop a region or a machine, TARGET."""
    _run(Act.STOP, target, site, force=force, yes=yes, dry_run=dry_run, as_json=as_json)


@click.command()
@click.argument("target")
@dry_run_option
@site_options
@json_option
@command_errors
def start(target: str, dry_run: bool, site: Site, as_json: bool) -> None:
    """Start a region or a machine, TARGET, and let the edges reach it again."""
    _run(Act.START, target, site, force=False, yes=True, dry_run=dry_run, as_json=as_json)
