"""A deployment of cheap machines on a real platform: they answer their checks and do nothing else."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from tests.services.platform_world import Running, platform
from tests.wire.contract import Checked

from viral_engine.clock import wait_until
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import MachineConfig
from viral_engine.fly.pace import Retries
from viral_engine.operations.blueprint import NOWHERE, Blueprint, Place
from viral_engine.operations.deploy import Deploy, Found
from viral_engine.operations.operator_lock import Operator
from viral_engine.operations.secrets import Secrets
from viral_engine.topology.model import Deployment, RegionPlan, Service

REGIONS = ("iad", "lhr", "yyz")
QUICKLY = timedelta(milliseconds=50)
PORTS = {"database": 8008, "witness": 2379, "cache": 6379, "app": 8080}

SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        primary = open(os.environ["PRIMARY_FILE"]).read()
        fits = self.path != "/primary" or primary == os.environ["FLY_REGION"]
        self.send_response(200 if fits else 503)
        self.end_headers()
    def log_message(self, *_):
        pass
where = (os.environ["FLY_PRIVATE_IP"], int(os.environ["LISTENS_ON"]))
http.server.ThreadingHTTPServer(where, Handler).serve_forever()
"""
MIGRATIONS = "import os; open(os.environ['PRIMARY_FILE'] + '.migrated', 'a').write('x')"


class Cheap(Blueprint):
    """The blueprint with other commands and quicker checks; all else of it is real."""

    def config(self, place: Place, volume: str | None) -> MachineConfig:
        real = super().config(place, volume)
        quick = {"interval": QUICKLY, "grace_period": timedelta(seconds=5)}
        env = {**real.env, "LISTENS_ON": str(PORTS[place.role]), **self.extra_env}
        return real.model_copy(
            update={
                "init": _python(SERVER),
                "env": env,
                "checks": {k: c.model_copy(update=quick) for k, c in real.checks.items()},
                "services": tuple(
                    s.model_copy(
                        update={"checks": tuple(c.model_copy(update=quick) for c in s.checks)}
                    )
                    for s in real.services
                ),
            }
        )

    def migration(self) -> MachineConfig:
        return super().migration().model_copy(update={"init": _python(MIGRATIONS)})


def _python(code: str) -> Any:
    init = MachineConfig(image="x").init
    return init.model_copy(update={"exec": (sys.executable, "-I", "-S", "-c", code)})


@dataclass
class CheapDatabases:
    """Databases whose primary is where a file says."""

    file: Path
    moved: list[str] = field(default_factory=list)

    def locked(self, operator: Operator) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def until_well(self) -> None:
        assert self.file.read_text() in REGIONS

    async def hand_over(self, region: str) -> None:
        self._move("lhr" if region == "iad" else "iad")

    async def hand_back(self, region: str) -> None:
        self._move(region)

    def _move(self, region: str) -> None:
        self.moved.append(region)
        self.file.write_text(region)


class Silence:
    """Hears the steps of a deploy."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def begun(self, step: str) -> None:
        self.heard.append(("begun", step))

    def done(self, step: str, seconds: float) -> None:
        self.heard.append(("done", step))

    def seen(self, step: str, detail: str) -> None:
        self.heard.append((step, detail))


DEPLOYMENT = Deployment(
    app="shop", primary_region="iad", witness="yyz",
    regions=(RegionPlan(code="iad", max=2), RegionPlan(code="lhr", max=2)),
    service=Service(hostnames=("shop.example.com",)),
)  # fmt: skip


@dataclass
class DeployWorld:
    """One platform and what is wanted there."""

    running: Running
    blueprint: Cheap
    databases: CheapDatabases
    later: float = 0.0
    """Seconds by which the platform's leases are ahead: nobody waits for the end of one."""

    @property
    def migrations(self) -> int:
        """How often the database was migrated."""
        path = Path(f"{self.databases.file}.migrated")
        return len(path.read_text()) if path.exists() else 0

    def deploy(
        self, client: FlyClient | None = None, *, who: str = "ana", **changed: Any
    ) -> Deploy:
        wanted = replace(self.blueprint, **changed)
        operator = Operator(who, "viral deploy")
        return Deploy(client or self.running.client, wanted, self.databases, operator, Silence())

    def client(self) -> FlyClient:
        globe = self.running.globe
        made = FlyClient(globe.api_url, globe.token, retries=Retries(first_delay=0.01))
        made.http._transport = Checked(made.http._transport, requests=True)
        return made

    async def refuse(self, **refusal: Any) -> None:
        """Have the platform refuse calls on purpose."""
        answer = await self.running.client.http.post("/globe/refusals", json=refusal)
        assert answer.status_code == 201, answer.text

    def leases_end(self) -> None:
        """Let a minute pass for everybody who holds a lease."""
        self.later += 60


@asynccontextmanager
async def deploy_world(home: Path) -> AsyncIterator[DeployWorld]:
    async with platform(home, regions=REGIONS) as running:
        transport = running.client.http._transport
        running.client.http._transport = Checked(transport, requests=True)
        file = home / "primary"
        file.write_text("iad")
        secrets = Secrets("su", "repl", "app", "cache", "sign")
        addresses = replace(NOWHERE, primary=dict.fromkeys(("iad", "lhr"), "127.0.0.1"))
        blueprint = Cheap(
            DEPLOYMENT, secrets, addresses, "shop:1", "folder", {"PRIMARY_FILE": str(file)}
        )
        world = DeployWorld(running, blueprint, CheapDatabases(file))
        platform_ = running.globe._platform
        assert platform_ is not None
        platform_.leases.now = lambda: time.monotonic() + world.later
        yield world


def summary(found: Found) -> dict[str, Any]:
    """What is there, without the ids and addresses that every platform chooses anew."""
    return {
        name: {
            "machines": [
                (m.name, m.region, m.state, m.cordoned, m.config.image, sorted(m.config.env))
                for m in app.machines
            ],
            "volumes": [(v.name, v.region, v.size_gb) for v in app.volumes],
            "secrets": dict(app.secrets),
            "addresses": sorted(app.addresses),
            "certificates": sorted(app.certificates),
        }
        for name, app in found.apps.items()
    }


class Killed(BaseException):
    """The process of a deploy is no more."""


class Mortal(httpx.AsyncBaseTransport):
    """The way of a process to the platform, which dies once so many changes were carried out.

    Leases are not counted: they are what a dead process leaves behind. What is run inside machines
    asks and changes nothing.
    """

    def __init__(self, way: httpx.AsyncBaseTransport, changes: int) -> None:
        self._way = way
        self._left = changes
        self.under_way = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._left <= 0:
            raise Killed
        changes = request.method != "GET" and not request.url.path.endswith(("/lease", "/exec"))
        self._left -= changes  # before it is sent: of those that are made at once, no more go out
        self.under_way += 1
        try:
            answer = await self._way.handle_async_request(request)
            await answer.aread()
        finally:
            self.under_way -= 1
        if self._left <= 0:
            raise Killed
        return answer

    async def aclose(self) -> None:
        await self._way.aclose()


async def deploy_until_killed(world: DeployWorld, *, changes: int, **wanted: Any) -> Found | None:
    """Deploy with a process that dies after so many changes; None when it died."""
    async with world.client() as client:
        mortal = client.http._transport = Mortal(client.http._transport, changes)
        try:
            return await world.deploy(client, **wanted).run()
        except Killed:
            world.leases_end()
            return None
        finally:
            await wait_until(
                lambda: mortal.under_way == 0,
                timeout=timedelta(seconds=10),
                waiting_for="the last answers to a process that died",
            )
