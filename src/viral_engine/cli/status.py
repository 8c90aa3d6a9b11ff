"""``viral status``: what runs, who is primary, what is broken on purpose."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from viral_engine.cli.output import command_errors, console, json_option, print_json, print_table
from viral_engine.cli.place import home_option, with_client
from viral_engine.fly.client import FlyClient
from viral_engine.fly.extension import GlobeExtension
from viral_engine.nodes.binaries import Engines
from viral_engine.operations.observe import database_view, machine_rows


@click.command()
@home_option
@json_option
@command_errors
def status(home: Path, as_json: bool) -> None:
    """Show the globe that runs from the data folder."""
    facts = with_client(home, gather)
    facts["engines"] = {
        engine.name: {"version": engine.version, "path": engine.path}
        for engine in Engines(os.environ).versions()
    }
    if as_json:
        print_json(facts)
    else:
        _show(facts)


async def gather(client: FlyClient) -> dict[str, Any]:
    """Ask the platform and the databases at once."""
    told, machines, database = await asyncio.gather(
        GlobeExtension(client).status(), machine_rows(client), database_view(client)
    )
    judged = {key: database.pop(key) for key in ("protection", "protection_reasons")}
    return {**told, **judged, "database": database, "machines": machines}


def _show(facts: dict[str, Any]) -> None:
    screen = console(err=False)
    screen.print(f"network   [bold]{facts['network']}[/] ({facts['network_reason']})")
    screen.print(f"anycast   {facts['addresses']['anycast']} (nearest to {facts['near']})")
    for region, url in facts["addresses"]["edges"].items():
        alive = "" if region in facts["edges_alive"] else "  [red]does not answer[/]"
        screen.print(f"edge {region}  {url}{alive}")
    screen.print(f"API       {facts['addresses']['api']}")
    screen.print(f"primary   [bold]{facts['database']['primary'] or 'none'}[/]")
    _show_protection(screen, facts)
    screen.print(f"etcd      led by {facts['database']['etcd_leader'] or 'nobody'}")
    for setting in facts["database"]["settings_not_in_force"]:
        screen.print(f"[red]setting[/]   {setting} is not in force as asked for")
    for replica in facts["database"]["replicas"]:
        screen.print(f"replica   {replica['region']}, {_lag(replica)}")
    for fault in facts["faults"]:
        where = fault.get("machine") or " ".join(fault.get("regions", ())) or "everywhere"
        screen.print(f"[red]fault[/]     {fault['kind']} {where}  ({fault['id']})", markup=True)
    screen.print(
        "engines   " + ", ".join(f"{k} {v['version']}" for k, v in facts["engines"].items())
    )
    screen.print()
    print_table(
        ("ID", "NAME", "REGION", "ROLE", "STATE", "HEALTH"),
        [tuple(str(row[key]) for key in ("id", "name", "region", "role", "state", "health"))
         for row in facts["machines"]],
    )  # fmt: skip


def _show_protection(screen: Console, facts: dict[str, Any]) -> None:
    """Say whether a region can be lost now, with every reason where it cannot."""
    colour = "yellow" if facts["protection_reasons"] else "green"
    screen.print(f"[{colour}]protected[/] {facts['protection']}" if colour == "green" else
                 f"[{colour}]{facts['protection']}[/]  {'; '.join(facts['protection_reasons'])}")  # fmt: skip


def _lag(replica: dict[str, Any]) -> str:
    if replica.get("lag_seconds") is None:
        return f"unknown: {replica.get('error', 'it does not say')}"
    return f"{replica['lag_seconds']:.3f} s behind"
