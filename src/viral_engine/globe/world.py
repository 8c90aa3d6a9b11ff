"""The globe: network, platform, edges, doors and API together, ready when entered."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import socket
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from viral_engine.errors import PortTakenError
from viral_engine.globe.api.extension import ExtensionCalls
from viral_engine.globe.api.routes import machines_api
from viral_engine.globe.api.server import make_app, serving
from viral_engine.globe.doors import Door
from viral_engine.globe.edges import Edges
from viral_engine.globe.faults import Faults
from viral_engine.globe.home import keep_network, kept_block, write_run_file
from viral_engine.globe.logbook import LogBook
from viral_engine.globe.machines.record import timestamp
from viral_engine.globe.network.addresses import AddressPlan, NetworkMode, users
from viral_engine.globe.network.flat import Flat
from viral_engine.globe.network.links import NetworkFault, anycast_routes, healthy, with_faults
from viral_engine.globe.network.wan import Wan
from viral_engine.globe.platform import Platform
from viral_engine.globe.traffic import HTTP_PORT

FIRST_PORT, FIRST_API_PORT = 8080, 4280
PORTS_TRIED = 200
DOOR_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class GlobeSpec:
    """What a globe is made of; ``regions`` are all of them, ``edges`` those that serve users."""

    home: Path
    regions: tuple[str, ...]
    edges: tuple[str, ...]
    near: str
    mode: NetworkMode
    why_mode: str
    rtt_factor: float
    port: int | None
    environ: Mapping[str, str]
    envoy: Path
    seed: int = 0
    origin: Mapping[str, Any] = field(default_factory=dict)
    """What it was started with, as later commands read it: the globe only keeps it."""


@dataclass(eq=False, slots=True)
class Globe:
    """A platform on this machine; leaving it stops every machine and removes every trace but data."""

    spec: GlobeSpec
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    started_at: str = field(default_factory=timestamp)
    failure: BaseException | None = None
    _faults: tuple[NetworkFault, ...] = ()
    _anycast: dict[str, str] = field(default_factory=dict)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _network: Wan | Flat | None = None
    _platform: Platform | None = None
    _edges: Edges | None = None
    _ports: dict[str, int] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        try:
            await self._build()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def api_url(self) -> str:
        """Where the API is."""
        return f"http://{DOOR_HOST}:{self._ports['api']}"

    @property
    def addresses(self) -> dict[str, Any]:
        """Where people enter: by anycast, by each edge, and the API."""
        return {
            "anycast": f"http://{DOOR_HOST}:{self._ports['anycast']}",
            "edges": {r: f"http://{DOOR_HOST}:{self._ports[r]}" for r in self.spec.edges},
            "api": self.api_url,
        }

    @property
    def private_edges(self) -> dict[str, str]:
        """The address of each edge in the private network."""
        assert self._network is not None
        return {region: self._network.plan.edge(region) for region in self.spec.edges}

    def last_lines(self, machine: str, count: int) -> list[str]:
        """The newest lines that a machine wrote."""
        assert self._platform is not None
        return self._platform.logs.last_lines(machine, count)

    async def _build(self) -> None:
        spec = self.spec
        listeners = self._reserve_ports()
        network = self._network = self._make_network()
        await self._stack.enter_async_context(network)
        keep_network(spec.home, network.plan)
        self._run_in_background(network.watch(), "network")
        logs = LogBook(spec.home / "logs")
        self._stack.callback(logs.close)
        isolate = spec.mode is NetworkMode.WAN
        platform = Platform(spec.home, network, logs, spec.environ, isolate)
        self._platform = platform
        await self._apply_links()
        await platform.restore()
        self._stack.push_async_callback(platform.close)
        self._edges = Edges(
            platform,
            spec.edges,
            spec.home / "edges",
            logs,
            isolate,
            spec.envoy,
            self._route_anycast,
        )
        self._run_in_background(self._edges.run(), "edges")
        await self._open_doors(listeners)
        faults = Faults(platform, spec.mode, self._set_faults, self._edges)
        extension = ExtensionCalls(faults, logs, self.status, network.stats, self.stopping.set)
        api = make_app([*machines_api(platform), *extension.routes()], self.token)
        await self._stack.enter_async_context(serving(api, listeners["api"]))
        write_run_file(spec.home, self._run_facts())
        self._stack.callback((spec.home / "run.json").unlink, missing_ok=True)

    def _make_network(self) -> Wan | Flat:
        if self.spec.mode is NetworkMode.WAN:
            plan = AddressPlan(NetworkMode.WAN, self.spec.regions)
            return Wan(plan, public_port=HTTP_PORT, seed=self.spec.seed)
        block = kept_block(self.spec.home)
        return Flat(AddressPlan(NetworkMode.FLAT, self.spec.regions, block), random.SystemRandom())

    def status(self) -> dict[str, Any]:
        """What this globe is, for people and programs."""
        assert self._edges is not None
        return {
            "network": self.spec.mode.value,
            "network_reason": self.spec.why_mode,
            "rtt_factor": self.spec.rtt_factor,
            "regions": list(self.spec.regions),
            "near": self.spec.near,
            "pid": os.getpid(),
            "started_at": self.started_at,
            "home": str(self.spec.home),
            "addresses": self.addresses,
            "edges_alive": sorted(self._edges.alive),
            "anycast": self._anycast,
        }

    def _run_facts(self) -> dict[str, Any]:
        assert self._network is not None
        places = [*self.spec.regions, *map(users, self.spec.regions)]
        return {
            "pid": os.getpid(),
            "token": self.token,
            "network": self.spec.mode.value,
            "namespaces": {place: self._network.namespace(place) for place in places},
            "addresses": self.addresses,
            "anycast_address": self._direct_anycast(),
            "private_edges": self.private_edges,
            "origin": dict(self.spec.origin),
        }

    def _direct_anycast(self) -> str:
        """The anycast address without a door in the way; in flat there is none but the door."""
        assert self._network is not None
        if self.spec.mode is NetworkMode.FLAT:
            return str(self.addresses["anycast"])
        return f"http://{self._network.plan.anycast}:{HTTP_PORT}"

    async def _set_faults(self, faults: tuple[NetworkFault, ...]) -> None:
        self._faults = faults
        await self._apply_links()

    async def _route_anycast(self, alive: frozenset[str]) -> None:
        self._anycast = anycast_routes(self.spec.regions, alive)
        await self._apply_links()

    async def _apply_links(self) -> None:
        assert self._network is not None
        links = healthy(self.spec.regions, rtt_factor=self.spec.rtt_factor)
        await self._network.apply(with_faults(links, self._faults), self._anycast)

    def _run_in_background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._notice_failure)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._stack.push_async_callback(end)

    def _notice_failure(self, task: asyncio.Task[None]) -> None:
        """A globe without one of its parts must not look alive."""
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.failure = failure
            self.stopping.set()

    # ports and doors

    def _reserve_ports(self) -> dict[str, socket.socket]:
        """Bind every port of this machine before anything is started, so that refusal is cheap."""
        listeners: dict[str, socket.socket] = {}
        try:
            wanted, least = self.spec.port, FIRST_PORT
            for name in ("anycast", *self.spec.edges):
                exact = wanted if name == "anycast" else None
                listeners[name] = _listen(exact, least)
                least = self._ports[name] = listeners[name].getsockname()[1]
                least += 1
            listeners["api"] = _listen(None, FIRST_API_PORT)
            self._ports["api"] = listeners["api"].getsockname()[1]
        except BaseException:
            for listener in listeners.values():
                listener.close()
            raise
        for listener in listeners.values():
            self._stack.callback(listener.close)
        return listeners

    async def _open_doors(self, listeners: dict[str, socket.socket]) -> None:
        assert self._network is not None
        await self._door(listeners["anycast"], users(self.spec.near), None)
        for region in self.spec.edges:
            await self._door(listeners[region], users(region), region)
        if self.spec.mode is NetworkMode.FLAT:
            return
        for place in map(users, self.spec.regions):
            for name in ("anycast", *self.spec.edges):
                listener = await self._network.open_socket_in(place)()
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((DOOR_HOST, self._ports[name]))
                listener.listen(128)
                self._stack.callback(listener.close)
                await self._door(listener, place, None if name == "anycast" else name)

    async def _door(self, listener: socket.socket, place: str, edge: str | None) -> None:
        network = self._network
        assert network is not None

        def target() -> str | None:
            if edge is not None:
                return network.plan.edge(edge)
            if self.spec.mode is NetworkMode.WAN:
                return network.plan.anycast
            nearest = self._anycast.get(place)
            return network.plan.edge(nearest) if nearest else None

        door = Door(listener, network.open_socket_in(place), target, HTTP_PORT)
        await door.open()
        self._stack.push_async_callback(door.close)


def _listen(exact: int | None, least: int) -> socket.socket:
    """Listen on ``exact``, or on the first free port from ``least``; raises PortTakenError."""
    tried = (exact,) if exact is not None else range(least, least + PORTS_TRIED)
    for port in tried:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((DOOR_HOST, port))
            listener.listen(128)
        except OSError:
            listener.close()
            continue
        listener.setblocking(False)
        return listener
    which = f"Port {exact} is" if exact is not None else f"Ports {least} to {tried[-1]} are"
    raise PortTakenError(
        f"{which} in use on {DOOR_HOST}.", suggestion="Choose another with --port, or leave it out."
    )
