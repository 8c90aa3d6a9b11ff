"""``viral logs``: all machines in one stream."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

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
def logs(region: str | None, machine: str | None, follow: bool, home: Path, as_json: bool) -> None:
    """Show what the machines wrote, oldest first, with region and machine."""

    async def show(client: FlyClient) -> None:
        stream = GlobeExtension(client).logs(region=region, machine=machine, follow=follow)
        async with contextlib.aclosing(stream):
            async for entry in stream:
                sys.stdout.write(json.dumps(entry) + "\n" if as_json else _shown(entry))
                if follow:
                    sys.stdout.flush()

    try:
        with_client(home, show)
    except BrokenPipeError:  # whoever read has had enough: nothing more can be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        pass


def _shown(entry: dict[str, Any]) -> str:
    where = f"{entry['region']} {entry['role']:<8} {entry['machine']}"
    return f"{entry['at']} {where} | {entry['line']}\n"
