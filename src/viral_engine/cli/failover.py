"""``viral failover`` and ``viral failback``: the primary moves to another region, planned."""

from __future__ import annotations

import click

from viral_engine.cli.operate import Operation, carry_out, dry_run_option, yes_option
from viral_engine.cli.output import command_errors, json_option
from viral_engine.cli.site import Site, site_options
from viral_engine.operations.fail_over import (
    DEFAULT_MAX_LAG,
    FailoverPlan,
    fail_over,
    plan_failover,
)

max_lag_option = click.option(
    "--max-lag", type=click.IntRange(min=0), default=DEFAULT_MAX_LAG, show_default=True,
    help="Bytes that the target may be behind.",
)  # fmt: skip


@click.command()
@click.option("--to", required=True, metavar="REGION", help="The new primary's region.")
@max_lag_option
@yes_option
@dry_run_option
@site_options
@json_option
@command_errors
def failover(to: str, max_lag: int, yes: bool, dry_run: bool, site: Site, as_json: bool) -> None:
    """Hand the primary over to another region; nothing is lost, and writes wait a moment."""
    operation = Operation(
        words=f"failover --to {to}",
        plan=lambda formation: plan_failover(formation, to, max_lag=max_lag),
        apply=fail_over,
        ask=_ask,
    )
    carry_out(operation, site, yes=yes, dry_run=dry_run, as_json=as_json)


@click.command()
@max_lag_option
@yes_option
@dry_run_option
@site_options
@json_option
@command_errors
def failback(max_lag: int, yes: bool, dry_run: bool, site: Site, as_json: bool) -> None:
    """Hand the primary back to the region that viral.toml declares."""
    operation = Operation(
        words="failback",
        plan=lambda formation: plan_failover(formation, formation.declared, max_lag=max_lag),
        apply=fail_over,
        ask=_ask,
    )
    carry_out(operation, site, yes=yes, dry_run=dry_run, as_json=as_json)


def _ask(plan: FailoverPlan) -> None:
    click.confirm(f"Make {plan.to} the primary in place of {plan.was}?", abort=True, err=True)
