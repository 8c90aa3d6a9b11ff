"""``viral logs``: all machines in one stream."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from viral_engine.cli.output import command_errors, json_option
from viral_engine.cli.place import home_option, with_client
from viral_engine.errors import NotRunningError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.extension import GlobeExtension
from viral_engine.globe.logbook import LogBook

TRACEBACK_LINES = 8


@click.command()
@click.option("--region", help="Only this region's lines.")
@click.option("--machine", help="Only this machine's lines (its id, or edge-REGION).")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until Ctrl-C.")
@home_option
@json_option
@command_errors
def logs(region: str | None, machine: str | None, follow: bool, home: Path, as_json: bool) -> None:
    """Show what the machines wrote, oldest first, with region and machine.

    What is kept is shown also when the globe no longer runs.
    """

    async def show(client: FlyClient) -> None:
        stream = GlobeExtension(client).logs(region=region, machine=machine, follow=True)
        async with contextlib.aclosing(stream):
            async for entry in stream:
                sys.stdout.write(json.dumps(entry) + "\n" if as_json else _shown(entry))
                sys.stdout.flush()

    try:
        if follow:
            with_client(home, show)
        else:
            _show_kept(home, region, machine, as_json=as_json)
    except BrokenPipeError:  # whoever read has had enough: nothing more can be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        pass


def _show_kept(home: Path, region: str | None, machine: str | None, *, as_json: bool) -> None:
    folder = home / "logs"
    if not folder.exists():
        raise NotRunningError(f"Nothing ever ran from {home}.")
    for line in LogBook(folder).history():
        if region in (None, line.region) and machine in (None, line.machine):
            entry = asdict(line)
            sys.stdout.write(json.dumps(entry) + "\n" if as_json else _shown(entry))


def readable(lines: list[str]) -> list[str]:
    """Lines for people: an entry of ours is its message and the end of its error, not JSON."""
    found: list[str] = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or "message" not in entry:
            found.append(line)
            continue
        text = str(entry.get("traceback") or entry["message"]).strip()
        found += text.splitlines()[-TRACEBACK_LINES:]
    return [line for n, line in enumerate(found) if line not in found[:n]]


def _shown(entry: dict[str, Any]) -> str:
    where = f"{entry['region']} {entry['role']:<8} {entry['machine']}"
    return f"{entry['at']} {where} | {entry['line']}\n"
