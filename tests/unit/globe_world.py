"""A platform without engines: the globe's API in this process, over machines that never start."""

from __future__ import annotations

import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import httpx
from tests.wire.contract import Checked

from viral_engine.globe.api.extension import ExtensionCalls
from viral_engine.globe.api.routes import machines_api
from viral_engine.globe.api.server import make_app
from viral_engine.globe.faults import Faults
from viral_engine.globe.logbook import LogBook
from viral_engine.globe.machines.process import MachineProcess
from viral_engine.globe.network.addresses import AddressPlan, NetworkMode
from viral_engine.globe.network.links import NetworkFault
from viral_engine.globe.platform import Platform

HEADERS = {"authorization": "Bearer secret"}
CONFIG: dict[str, Any] = {"image": "x"}


class Nowhere:
    """A network that carries nothing: the machines of these tests are never started."""

    plan = AddressPlan(NetworkMode.WAN, ("iad", "lhr"))

    def namespace(self, place: str) -> int | None:
        raise AssertionError(place)

    def open_socket_in(self, place: str) -> Callable[[], Awaitable[socket.socket]]:
        raise AssertionError(place)

    async def add_address(self, place: str, address: str) -> None:
        assert self.plan.owner(address) == place


class Edge:
    def __init__(self) -> None:
        self.done: list[str] = []

    def kill(self) -> None:
        self.done.append("kill")

    def pause(self) -> None:
        self.done.append("pause")

    def resume(self) -> None:
        self.done.append("resume")


class Edges:
    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []
        self.edge = Edge()

    def process(self, region: str) -> MachineProcess | None:
        return cast("MachineProcess", self.edge) if region == "lhr" else None

    def take_host(self, region: str) -> None:
        self.done.append(("take", region))

    def give_host(self, region: str) -> None:
        self.done.append(("give", region))


class World:
    def __init__(self, home: Path) -> None:
        self.logs = LogBook(home / "logs")
        self.platform = Platform(home, Nowhere(), self.logs, {}, isolate=False)
        self.applied: list[tuple[NetworkFault, ...]] = []
        self.edges = Edges()
        self.faults = Faults(self.platform, NetworkMode.WAN, self._apply, self.edges)
        calls = ExtensionCalls(self.faults, self.logs, dict, self._packets, lambda: None)
        routes = [*machines_api(self.platform), *calls.routes()]
        transport = Checked(httpx.ASGITransport(app=make_app(routes, "secret")))
        self.user = httpx.AsyncClient(transport=transport, base_url="http://api", headers=HEADERS)

    async def _apply(self, faults: tuple[NetworkFault, ...]) -> None:
        self.applied.append(faults)

    async def _packets(self) -> list[list[object]]:
        return []

    async def post(self, path: str, body: Any = None) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body or {})
        return await self.user.post(f"/v1{path}", content=content)

    async def get(self, path: str, **query: str) -> httpx.Response:
        return await self.user.get(f"/v1{path}", params=query)

    async def machine(self, **more: Any) -> str:
        body = {"region": "iad", "config": CONFIG, "skip_launch": True, **more}
        answer = await self.post("/apps/shop/machines", body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    async def close(self) -> None:
        await self.user.aclose()
        await self.platform.close()
        self.logs.close()
