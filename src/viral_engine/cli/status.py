"""``viral status``: what runs, who is primary, what is broken on purpose."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import click
from rich.console import Console

from viral_engine.cli.output import command_errors, console, json_option, print_json, print_table
from viral_engine.cli.site import GLOBE, Site, site_options
from viral_engine.fly.client import FlyClient
from viral_engine.fly.extension import GlobeExtension
from viral_engine.nodes.binaries import Engines
from viral_engine.operations.observe import database_view, machine_rows


@click.command()
@site_options
@json_option
@command_errors
def status(site: Site, as_json: bool) -> None:
    """Show what runs, who is primary, and what is broken on purpose."""
    if site.on == GLOBE:
        facts = site.run(gather)
        facts["engines"] = {
            engine.name: {"version": engine.version, "path": engine.path}
            for engine in Engines(os.environ).versions()
        }
    else:
        facts = site.run(gather_anywhere)
    if as_json:
        print_json(facts)
    else:
        _show(facts)


async def gather(client: FlyClient) -> dict[str, Any]:
    """Ask the globe and the databases at once."""
    told, found = await asyncio.gather(GlobeExtension(client).status(), gather_anywhere(client))
    return {**told, **found}


async def gather_anywhere(client: FlyClient) -> dict[str, Any]:
    """What every platform can be asked: its machines, and the databases inside."""
    machines, database = await asyncio.gather(machine_rows(client), database_view(client))
    judged = {key: database.pop(key) for key in ("protection", "protection_reasons")}
    return {**judged, "database": database, "machines": machines}


def _show(facts: dict[str, Any]) -> None:
    screen = console(err=False)
    if "network" in facts:
        _show_globe(screen, facts)
    screen.print(f"primary   [bold]{facts['database']['primary'] or 'none'}[/]")
    _show_protection(screen, facts)
    screen.print(f"etcd      led by {facts['database']['etcd_leader'] or 'nobody'}")
    for setting in facts["database"]["settings_not_in_force"]:
        screen.print(f"[red]setting[/]   {setting} is not in force as asked for")
    for replica in facts["database"]["replicas"]:
        screen.print(f"replica   {replica['region']}, {_lag(replica)}")
    for fault in facts.get("faults", ()):
        where = fault.get("machine") or " ".join(fault.get("regions", ())) or "everywhere"
        screen.print(f"[red]fault[/]     {fault['kind']} {where}  ({fault['id']})", markup=True)
    if "engines" in facts:
        engines = (f"{name} {engine['version']}" for name, engine in facts["engines"].items())
        screen.print("engines   " + ", ".join(engines))
    screen.print()
    print_table(
        ("ID", "NAME", "REGION", "ROLE", "STATE", "HEALTH"),
        [tuple(str(row[key]) for key in ("id", "name", "region", "role", "state", "health"))
         for row in facts["machines"]],
    )  # fmt: skip


def _show_globe(screen: Console, facts: dict[str, Any]) -> None:
    screen.print(f"network   [bold]{facts['network']}[/] ({facts['network_reason']})")
    screen.print(f"anycast   {facts['addresses']['anycast']} (nearest to {facts['near']})")
    for region, url in facts["addresses"]["edges"].items():
        alive = "" if region in facts["edges_alive"] else "  [red]does not answer[/]"
        screen.print(f"edge {region}  {url}{alive}")
    screen.print(f"API       {facts['addresses']['api']}")


def _show_protection(screen: Console, facts: dict[str, Any]) -> None:
    """Say whether a region can be lost now, with every reason where it cannot."""
    colour = "yellow" if facts["protection_reasons"] else "green"
    screen.print(f"[{colour}]protected[/] {facts['protection']}" if colour == "green" else
                 f"[{colour}]{facts['protection']}[/]  {'; '.join(facts['protection_reasons'])}")  # fmt: skip


def _lag(replica: dict[str, Any]) -> str:
    if replica.get("lag_seconds") is None:
        return f"unknown: {replica.get('error', 'it does not say')}"
    return f"{replica['lag_seconds']:.3f} s behind"
