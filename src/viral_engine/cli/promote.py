"""``viral promote``: a region becomes primary without the present one's help."""

from __future__ import annotations

import click

from viral_engine.cli.operate import Operation, carry_out, dry_run_option, yes_option
from viral_engine.cli.output import command_errors, json_option
from viral_engine.cli.site import Site, site_options
from viral_engine.errors import MisuseError
from viral_engine.operations.promote import PromotionPlan, plan_promotion
from viral_engine.operations.take_over import take_over


@click.command()
@click.argument("region")
@click.option("--force", is_flag=True,
              help="Stop a primary that lives; rebuild etcd where its majority is lost.")  # fmt: skip
@yes_option
@dry_run_option
@site_options
@json_option
@command_errors
def promote(region: str, force: bool, yes: bool, dry_run: bool, site: Site, as_json: bool) -> None:
    """Make REGION the primary when the present one is lost; says first what that may cost."""
    operation = Operation(
        words=f"promote {region}{' --force' if force else ''}",
        plan=lambda formation: plan_promotion(formation, region, force=force),
        apply=take_over,
        ask=_ask,
    )
    carry_out(operation, site, yes=yes, dry_run=dry_run, as_json=as_json)


def _ask(plan: PromotionPlan) -> None:
    typed = click.prompt(f"Type {plan.to} to make it the primary", err=True)
    if typed.strip() != plan.to:
        raise MisuseError(f"{typed.strip()} is not {plan.to}: nothing was done.")
