"""Where a deployment runs that is looked at and operated: on the globe, or on Fly.io."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from viral_engine.cli.place import home_option, with_client
from viral_engine.cli.target import fly_client
from viral_engine.errors import NotFoundError, ViralError
from viral_engine.fly.client import FlyClient
from viral_engine.operations.blueprint import apps
from viral_engine.topology.load import load, load_folder

T = TypeVar("T")

FLY, GLOBE = "fly", "globe"


@dataclass(frozen=True, slots=True)
class Site:
    """One deployment: what runs from a data folder, or the apps of a deployment file on Fly.io."""

    on: str
    home: Path
    file: Path | None = None

    @property
    def words(self) -> str:
        """The options that lead here again."""
        if self.on == GLOBE:
            return ""
        return f" --on {self.on}" + (f" --file {self.file}" if self.file else "")

    def run(self, work: Callable[[FlyClient], Awaitable[T]]) -> T:
        """Do something with a client that knows this deployment alone; raises ViralError."""
        if self.on == GLOBE:
            return with_client(self.home, work)
        deployment = load(self.file) if self.file else load_folder(Path.cwd())

        async def run() -> T:
            async with fly_client() as client:
                client.only = apps(deployment)
                if not await client.list_apps():
                    raise NotFoundError(
                        f"There is no app {deployment.app} on Fly.io.",
                        suggestion="Make it with: viral deploy --to fly --image registry.fly.io/APP:TAG",
                    )
                return await work(client)

        try:
            return asyncio.run(run())
        except ViralError as error:
            # Typed as it is said, a command would be carried out on the globe.
            if "viral " in error.suggestion:
                error.suggestion += f" Each of these with{self.words}."
            raise


def site_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where, for a command that takes a ``site``."""

    @functools.wraps(command)
    def at_site(on: str, file: Path | None, home: Path, **more: Any) -> Any:
        return command(site=Site(on, home, file), **more)

    for option in (home_option, _file_option, _on_option):
        at_site = option(at_site)
    return at_site


_on_option = click.option("--on", type=click.Choice([GLOBE, FLY]), default=GLOBE, show_default=True,
                          help="The globe that runs, or Fly.io.")  # fmt: skip
_file_option = click.option("--file", "-f", type=click.Path(path_type=Path, dir_okay=False),
                            help="With --on fly: whose apps. Default: viral.toml of this folder.")  # fmt: skip
