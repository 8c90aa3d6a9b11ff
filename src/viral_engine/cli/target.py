"""Where a deployment is made: on the globe that runs, or on Fly.io; and what is wanted there."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from viral_engine import __version__
from viral_engine.errors import MisuseError, NotFoundError, PlatformError, RefusedError
from viral_engine.fly.app_settings import AppSettings
from viral_engine.fly.client import FlyClient
from viral_engine.fly.pace import Pace
from viral_engine.globe.home import read_run_file
from viral_engine.operations.blueprint import NOWHERE, Blueprint, apps
from viral_engine.operations.secrets import Secrets
from viral_engine.topology.load import FILE_NAME, load, load_folder
from viral_engine.topology.model import Deployment
from viral_engine.topology.overrides import with_overrides

T = TypeVar("T")

FLY_API = "https://api.machines.dev"
FOLDER_OF_IMAGE = "/app"
"""Where an image has the user's app."""

to_option = click.option("--to", "--on", "to", type=click.Choice(["globe", "fly"]), default="globe",
                         show_default=True, help="The globe that runs, or Fly.io.")  # fmt: skip
file_option = click.option("--file", "-f", type=click.Path(path_type=Path, dir_okay=False),
                           help="Default: what viral up read; with --to fly, viral.toml of this folder.")  # fmt: skip
image_option = click.option("--image", help="With --to fly: the image that machines run.")
org_option = click.option("--org", default="personal", show_default=True,
                          help="With --to fly: the organization of new apps.")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Origin:
    """What ``viral up`` was told, so that later commands want the same where nothing is said."""

    folder: str
    file: str | None
    app: str | None
    regions: tuple[str, ...] | None
    primary: str | None
    environ: Mapping[str, str]
    external: Mapping[str, str] = field(default_factory=dict)
    """Where somebody else's databases and caches are, by variable."""

    def source(self, file: Path | None = None) -> Path:
        """The file that ``deployment`` reads, whether it exists or not."""
        return file or (Path(self.file) if self.file else Path(self.folder) / FILE_NAME)

    def deployment(self, file: Path | None = None) -> Deployment:
        """Read the deployment anew; another ``file`` stands for itself, without the options of up."""
        if file is not None:
            return load(file)
        return with_overrides(
            load(Path(self.file)) if self.file else load_folder(Path(self.folder)),
            regions=self.regions, primary=self.primary, app=self.app,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """One platform and how to come by what is wanted there."""

    to: str
    home: Path
    file: Path | None
    image: str | None
    org: str = "personal"
    takes_running: bool = False
    """Whether the image that app machines run does where none is named."""

    def edges(self) -> dict[str, str]:
        """Where users enter by region, as far as it is known from here; nothing of Fly.io's."""
        if self.to == "fly":
            return {}
        edges: dict[str, str] = read_run_file(self.home)["addresses"]["edges"]
        return edges

    def source(self) -> Path:
        """The deployment file that is read, whether it exists or not."""
        if self.to == "fly":
            return self.file or Path.cwd() / FILE_NAME
        return Origin(**read_run_file(self.home)["origin"]).source(self.file)

    def run(self, work: Callable[[FlyClient, Blueprint], Awaitable[T]]) -> T:
        """Do something with a client and the blueprint; raises ViralError."""

        async def run() -> T:
            async with self._opened() as (client, blueprint):
                return await work(client, blueprint)

        return asyncio.run(run())

    @property
    def words(self) -> str:
        """The options that lead here again."""
        said = [f"--to {self.to}"] if self.to != "globe" else []
        said += [f"--file {self.file}"] if self.file else []
        said += [f"--image {self.image}"] if self.image else []
        return "".join(f" {one}" for one in said)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[tuple[FlyClient, Blueprint]]:
        if self.to == "fly":
            deployment = load(self.file) if self.file else load_folder(Path.cwd())
            image = self.image if self.takes_running else self._image()
            async with fly_client() as client:
                client.only = apps(deployment)  # an organization may have other deployments too
                secrets = await kept_secrets(client, deployment.app)
                image = image or await running_image(client, deployment.app)
                yield client, fly_blueprint(deployment, secrets, image)
            return
        facts = read_run_file(self.home)
        origin = Origin(**facts["origin"])
        blueprint = globe_blueprint(
            origin.deployment(self.file), self.home, origin, facts["private_edges"]
        )
        async with FlyClient(facts["addresses"]["api"], facts["token"]) as client:
            yield client, blueprint

    def _image(self) -> str:
        if self.image is None:
            raise MisuseError(
                "Fly.io runs images, and none was named.",
                suggestion="Build and push one, then: viral deploy --to fly --image registry.fly.io/APP:TAG",
            )
        return self.image


def fly_client() -> FlyClient:
    """A client of Fly.io, or of whoever FLY_FLAPS_BASE_URL names; MisuseError without a token."""
    base = os.environ.get("FLY_FLAPS_BASE_URL") or FLY_API
    return FlyClient(base, _token(), pace=Pace())


def _token() -> str:
    token = os.environ.get("FLY_API_TOKEN") or os.environ.get("FLY_ACCESS_TOKEN")
    if not token:
        raise MisuseError(
            "FLY_API_TOKEN is not set, and Fly.io answers nobody without a token.",
            suggestion="Make one with: fly tokens create org, and set FLY_API_TOKEN to it.",
        )
    return token


async def running_image(client: FlyClient, app: str) -> str:
    """The image that most app machines run; raises RefusedError where there is none of them."""
    machines = await client.list_machines(app)
    images = Counter(m.config.image for m in machines if m.role == "app")
    if not images:
        raise RefusedError(
            f"{app} has no app machine on Fly.io yet.",
            suggestion="Make it with: viral deploy --to fly --image registry.fly.io/APP:TAG",
        )
    return images.most_common(1)[0][0]


def globe_blueprint(
    deployment: Deployment, home: Path, origin: Origin, private_edges: Mapping[str, str]
) -> Blueprint:
    """What is wanted on a globe: its machines run from this installation and the user's folder."""
    return Blueprint(
        deployment=deployment,
        secrets=Secrets.kept_in(home / "secrets.json"),
        addresses=replace(NOWHERE, primary=private_edges),
        image=f"viral-engine:{__version__}",
        app_folder=origin.folder,
        extra_env=origin.environ,
        external=origin.external,
    )


def fly_blueprint(deployment: Deployment, secrets: Secrets, image: str) -> Blueprint:
    """What is wanted on Fly.io, where the primary is followed by the database app's private address."""
    primary = dict.fromkeys(deployment.region_codes, f"{deployment.app}-db.flycast")
    return Blueprint(
        deployment=deployment, secrets=secrets, addresses=replace(NOWHERE, primary=primary),
        image=image, app_folder=FOLDER_OF_IMAGE, extra_env={},
    )  # fmt: skip


async def kept_secrets(client: FlyClient, app: str) -> Secrets:
    """The secrets that the platform keeps for a deployment, and new ones for what it has not.

    Raises PlatformError where it has them and does not show them: new ones would lock machines out.
    """
    settings, values = AppSettings(client), dict[str, str]()
    for name in (app, f"{app}-db", f"{app}-cache"):
        try:
            listed = await settings.secrets(name)
        except NotFoundError:
            continue
        for secret in listed:
            if secret.value is None and secret.name in Secrets.NAMES:
                raise PlatformError(
                    f"The value of {secret.name} of {name} is not shown to this token.",
                    suggestion="Take a token of an organization's member: fly tokens create org.",
                )
            values[secret.name] = secret.value or ""
    return Secrets.taken_from(values)


def options_of(target: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where, for a command."""
    for option in (org_option, image_option, file_option, to_option):
        target = option(target)
    return target
