"""``viral regions``: the regions of the globe, or all that there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from viral_engine.cli.output import command_errors, json_option, print_json, print_table
from viral_engine.cli.place import home_option, with_client
from viral_engine.cli.status import gather
from viral_engine.errors import NotRunningError
from viral_engine.topology.regions import all_regions
from viral_engine.topology.rtt import by_distance, round_trip_ms


@click.command()
@click.option("--all", "every", is_flag=True, help="All regions of the platform, with distances.")
@click.option("--near", default="iad", show_default=True, help="Where distances are counted from.")
@home_option
@json_option
@command_errors
def regions(every: bool, near: str, home: Path, as_json: bool) -> None:
    """Show the regions: what each one has, and how far away it is."""
    try:
        rows = _platform(near) if every else _running(with_client(home, gather))
    except NotRunningError:
        rows = _platform(near)
    if as_json:
        print_json(rows)
        return
    columns = tuple(rows[0])
    print_table(
        tuple(column.upper().replace("_", " ") for column in columns),
        [tuple(str(row[column]) for column in columns) for row in rows],
    )


def _platform(near: str) -> list[dict[str, Any]]:
    known = all_regions()
    return [
        {
            "region": code,
            "name": known[code].name,
            "rtt_ms": round(round_trip_ms(near, code)),
            "price_factor": round(known[code].price_markup, 3),
            "gateway": "yes" if known[code].gateway_available else "no",
        }
        for code in by_distance(near, known)
    ]


def _running(facts: dict[str, Any]) -> list[dict[str, Any]]:
    roles = {node["region"]: node["role"] for node in facts["database"]["nodes"]}
    rows = []
    for code in facts["regions"]:
        machines = [machine for machine in facts["machines"] if machine["region"] == code]
        edge = (
            "-"
            if code not in facts["addresses"]["edges"]
            else ("up" if code in facts["edges_alive"] else "down")
        )
        rows.append({
            "region": code,
            "name": all_regions()[code].name,
            "database": roles.get(code, "witness" if machines else "-"),
            "edge": edge,
            "machines": len(machines),
            "healthy": sum(machine["health"] == "passing" for machine in machines),
            "rtt_ms": round(round_trip_ms(facts["near"], code) * facts["rtt_factor"], 1),
        })  # fmt: skip
    return rows
