"""A platform with edges and real app machines, a small app whose version is a variable, and users."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from tests.services.deploy_world import CheapDatabases, Silence
from tests.services.platform_world import Running, platform

from viral_engine.clock import NotYet, wait_until
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import Machine
from viral_engine.fly.pace import Retries
from viral_engine.operations.blueprint import Addresses, Blueprint, places
from viral_engine.operations.operator_lock import Operator
from viral_engine.operations.rollout import Options, Rollout, Version
from viral_engine.operations.secrets import Secrets
from viral_engine.operations.serving import wait_until_routed
from viral_engine.topology.model import Deployment, RegionPlan, Service

REGIONS = ("iad", "lhr")
SOON = timedelta(seconds=60)

SMALL_APP = """
import os, sys

VERSION = os.environ.get("VERSION", "1")
if VERSION == "dead":
    sys.exit(1)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    bad = VERSION == "bad" and scope["path"] != "/api/health"
    await send({"type": "http.response.start", "status": 500 if bad else 200, "headers": []})
    await send({"type": "http.response.body", "body": VERSION.encode()})
"""


def version(name: str) -> Version:
    return Version(env={"VERSION": name})


@dataclass(frozen=True)
class Answer:
    """What one user was answered: 0 for nothing."""

    region: str
    status: int
    version: str


@dataclass
class Users:
    """Users of every region, who come at their times whether or not others were answered."""

    edges: dict[str, str]
    rate: float
    answers: list[Answer] = field(default_factory=list)
    _asking: set[asyncio.Task[None]] = field(default_factory=set)

    def of(self, region: str) -> list[Answer]:
        return [one for one in self.answers if one.region == region]

    def failed(self, region: str) -> list[Answer]:
        return [one for one in self.of(region) if one.status != 200]

    async def come(self) -> None:
        """Let them come until it is cancelled, and wait for the answers of those who came."""
        async with httpx.AsyncClient(trust_env=False, timeout=20, limits=httpx.Limits()) as http:
            began, number = asyncio.get_running_loop().time(), 0
            try:
                while True:
                    for region in self.edges:
                        task = asyncio.create_task(self._ask(http, region))
                        self._asking.add(task)
                        task.add_done_callback(self._asking.discard)
                    number += 1
                    due = began + number / self.rate
                    await asyncio.sleep(due - asyncio.get_running_loop().time())
            finally:
                await asyncio.gather(*self._asking)

    async def _ask(self, http: httpx.AsyncClient, region: str) -> None:
        try:
            answer = await http.get(self.edges[region] + "/")
            self.answers.append(Answer(region, answer.status_code, answer.text))
        except httpx.HTTPError as error:
            self.answers.append(Answer(region, 0, repr(error)))


@dataclass
class RolloutWorld:
    """One platform, and what runs there."""

    running: Running
    blueprint: Blueprint
    home: Path
    edges: dict[str, str]
    later: float = 0.0

    def client(self) -> FlyClient:
        globe = self.running.globe
        return FlyClient(globe.api_url, globe.token, retries=Retries(first_delay=0.01))

    def leases_end(self) -> None:
        """Let a minute pass for everybody who holds a lease."""
        self.later += 60

    def rollout(
        self, wanted: Version, client: FlyClient | None = None, *, bake_s: float = 4.0, **more: Any
    ) -> Rollout:
        said = {key: more.pop(key) for key in ("strategy", "waves") if key in more}
        options = Options(bake_s=bake_s, **said)
        return Rollout(
            client or self.running.client, self.blueprint, CheapDatabases(self.home / "primary"),
            Operator("ana", "viral rollout"), Silence(), wanted, options, edges=self.edges, **more,
        )  # fmt: skip

    async def machines(self) -> dict[str, Machine]:
        listed = await self.running.client.list_machines("shop")
        return {one.name: one for one in sorted(listed, key=lambda m: m.name)}

    async def versions(self) -> dict[str, str]:
        """By name, the version that a machine is told, and what is not as at rest."""
        return {
            name: one.config.env.get("VERSION", "1")
            + (" cordoned" if one.cordoned else "")
            + (" marked" if "viral_rollout" in one.config.metadata else "")
            + ("" if one.healthy else f" {one.state}")
            for name, one in (await self.machines()).items()
        }

    @asynccontextmanager
    async def users(self, rate: float = 25.0) -> AsyncIterator[Users]:
        """Have users come for as long as the block runs."""
        users = Users(self.edges, rate)
        coming = asyncio.create_task(users.come())
        try:
            await wait_until(
                lambda: len(users.answers) >= 2, timeout=SOON, waiting_for="the first answers"
            )
            yield users
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


@asynccontextmanager
async def rollout_world(home: Path, *, each: int = 2) -> AsyncIterator[RolloutWorld]:
    """Run so many app machines in either region, reached by their edges."""
    deployment = Deployment(
        app="shop", primary_region="iad", witness="yyz",
        regions=tuple(RegionPlan(code=code, min=each, max=each + 1) for code in REGIONS),
        service=Service(app="small_app:app", kill_timeout=timedelta(seconds=2)),
    )  # fmt: skip
    async with platform(home, regions=REGIONS, edges=REGIONS) as running:
        folder = home / "app"
        folder.mkdir()
        (folder / "small_app.py").write_text(SMALL_APP)
        (home / "primary").write_text("iad")
        nobody = dict.fromkeys(REGIONS, "127.0.0.1")
        blueprint = Blueprint(
            deployment, Secrets("su", "repl", "app", "cache", "sign"),
            Addresses(nobody, nobody, nobody, nobody), "shop:1", str(folder), {},
        )  # fmt: skip
        edges = running.globe.addresses["edges"]
        world = RolloutWorld(running, blueprint, home, edges)
        platform_ = running.globe._platform
        assert platform_ is not None
        now = platform_.leases.now
        platform_.leases.now = lambda: now() + world.later
        for name in ("shop", "shop-db", "shop-cache"):
            await running.client.create_app(name)
        for place in places(deployment):
            if place.role == "app":
                await running.client.create_machine(
                    "shop", name=place.name, region=place.region, config=small(blueprint, place)
                )

        async def healthy() -> bool | NotYet:
            seen = await world.versions()
            return set(seen.values()) == {"1"} or NotYet(str(seen))

        await wait_until(healthy, timeout=SOON, waiting_for="the app machines to be healthy")
        for one in (await world.machines()).values():
            await wait_until_routed(edges[one.region], "/api/health", machine=one.id)
        yield world


def small(blueprint: Blueprint, place: Any) -> Any:
    """The real configuration with quicker checks, which ask over HTTP."""
    config = blueprint.config(place, None)
    quick = {"type": "http", "interval": timedelta(milliseconds=200)}
    services = tuple(
        one.model_copy(update={"checks": tuple(c.model_copy(update=quick) for c in one.checks)})
        for one in config.services
    )
    return config.model_copy(update={"services": services})
