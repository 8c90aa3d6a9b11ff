"""``viral logs``: all machines in one stream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path

import click

from viral_engine.cli.output import command_errors, json_option
from viral_engine.cli.place import home_option, with_client
from viral_engine.fly.client import FlyClient
from viral_engine.fly.extension import GlobeExtension


@click.command()
@click.option("--region", help="Only this region's lines.")
@click.option("--machine", help="Only this machine's lines (its id, or edge-REGION).")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until Ctrl-C.")
@home_option
@json_option
@command_errors
def logs(
    region: str | None, machine: str | None, follow: bool, home: Path, as_json: bool
) -> None:
    """Show what the machines wrote, oldest first, with region and machine."""

    async def show(client: FlyClient) -> None:
        stream = GlobeExtension(client).logs(region=region, machine=machine, follow=follow)
        async for entry in stream:
            if as_json:
                sys.stdout.write(json.dumps(entry) + "\n")
            else:
                where = f"{entry['region']} {entry['role']:<8} {entry['machine']}"
                sys.stdout.write(f"{entry['at']} {where} | {entry['line']}\n")
            if follow:
                sys.stdout.flush()

    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError, BrokenPipeError):
        with_client(home, show)
