"""Where the data folder is, and a client of the globe that runs from it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click
import platformdirs

from viral_engine.fly.client import FlyClient
from viral_engine.globe.home import read_run_file

T = TypeVar("T")


def default_home() -> Path:
    """VIRAL_HOME, else the platform's usual place for data."""
    return Path(os.environ.get("VIRAL_HOME") or platformdirs.user_data_path("viral-engine"))


home_option = click.option(
    "--home", type=click.Path(path_type=Path, file_okay=False), default=default_home,
    show_default="VIRAL_HOME or the platform's data folder", help="The globe's data folder.",
)  # fmt: skip


def with_client(home: Path, work: Callable[[FlyClient], Awaitable[T]]) -> T:
    """Do something with the globe that runs from ``home``; raises NotRunningError without one."""
    facts = read_run_file(home)

    async def run() -> T:
        async with FlyClient(facts["addresses"]["api"], facts["token"]) as client:
            return await work(client)

    return asyncio.run(run())
