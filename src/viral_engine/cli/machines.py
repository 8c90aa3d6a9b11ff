"""``viral machines``: every machine, where it is and how it is."""

from __future__ import annotations

import click

from viral_engine.cli.output import command_errors, json_option, print_json, print_table
from viral_engine.cli.site import Site, site_options
from viral_engine.operations.observe import machine_rows


@click.command()
@click.option("--region", help="Only this region's.")
@site_options
@json_option
@command_errors
def machines(region: str | None, site: Site, as_json: bool) -> None:
    """List the machines."""
    rows = [r for r in site.run(machine_rows) if region in (None, r["region"])]
    if as_json:
        print_json(rows)
        return
    columns = ("ID", "NAME", "REGION", "ROLE", "STATE", "HEALTH", "ADDRESS")
    keys = ("id", "name", "region", "role", "state", "health", "private_ip")
    print_table(columns, [tuple(str(row[key]) for key in keys) for row in rows])
