"""Machines with the runtime behind a real edge, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from tests.services.edge_world import Edge, Machine, World

from viral_engine.cluster import ClusterView
from viral_engine.cluster.view import Answer, Observation, build_view
from viral_engine.data import Need, TokenSigner
from viral_engine.lsn import Lsn
from viral_engine.topology.model import Consistency, Sticky
from viral_engine.web import BodyLimit, RegionMiddleware, ReplaySigner
from viral_engine.web.asgi import Scope
from viral_engine.web.declared import Declarations
from viral_engine.web.region import Place, need_of_method

MIB = 1024 * 1024
REGIONS = ("iad", "lhr")


class Belief:
    """What a machine takes for the cluster, whatever is so."""

    def __init__(self, primary: str | None, lost: frozenset[str]) -> None:
        seen = [
            Observation(region, 0, Answer(region != primary, 1, Lsn(1), 0.25))
            for region in REGIONS
            if region not in lost
        ]
        self.view = build_view(REGIONS, seen, now=0, fresh_for=3)

    async def wait_for(
        self, holds: Callable[[ClusterView], bool], *, timeout: timedelta
    ) -> ClusterView:
        return self.view

    async def wait_until_replayed(
        self, region: str, *, timeline: int, lsn: Lsn, timeout: timedelta
    ) -> bool:
        return True


@dataclass
class WrongClock:
    """The machine's clock, so much ahead."""

    ahead: timedelta = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def need(scope: Scope) -> Need:
    return Need.PRIMARY if scope["path"] == "/edit" else need_of_method(scope)


@dataclass
class RuntimeMachine(Machine):
    """An app inside the runtime; ``arrived`` counts what came in, ``seen`` what the app saw."""

    primary: str | None = "iad"
    lost: frozenset[str] = frozenset()
    sticky: Sticky = Sticky.OFF
    secret: str | None = "shared"
    clock: WrongClock = field(default_factory=WrongClock)
    arrived: int = 0
    full: bool = False

    def build(self) -> None:
        """Make the runtime anew, for what was changed."""
        self.arrived = 0
        self.seen.clear()
        self._led = RegionMiddleware(
            BodyLimit(super().app, limit=4 * MIB),
            place=Place(self.region, self.id),
            cluster=Belief(self.primary, self.lost),
            signer=ReplaySigner(self.secret, clock=self.clock),
            tokens=TokenSigner(self.secret, clock=self.clock),
            need=need,
            declared=Declarations({"/strong": Consistency.STRONG}),
            sticky=self.sticky,
        )

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" or scope["path"] == "/health":
            await super().app(scope, receive, send)
            return
        self.arrived += 1
        if self.full:
            answer = {"type": "http.response.start", "status": 503}
            await send({**answer, "headers": [(b"fly-replay", b"elsewhere=true")]})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._led(scope, receive, send)


class Globe:
    """Two machines in lhr and two in iad, behind the edge of lhr."""

    def __init__(self, here: World, edge: Edge, machines: list[RuntimeMachine]) -> None:
        self.here = here
        self.edge = edge
        self.machines = {machine.id: machine for machine in machines}

    def set(self, prefix: str = "", **values: Any) -> None:
        for machine in self.of(prefix):
            for name, value in values.items():
                setattr(machine, name, value)
            machine.build()

    def of(self, prefix: str) -> list[RuntimeMachine]:
        return [machine for name, machine in self.machines.items() if name.startswith(prefix)]

    def arrived(self) -> dict[str, int]:
        counts = {region: sum(m.arrived for m in self.of(region)) for region in ("lhr", "iad")}
        return {region: count for region, count in counts.items() if count}

    def was_seen(self) -> int:
        return sum(len(machine.seen) for machine in self.machines.values())

    async def ask(self, method: str = "GET", path: str = "/", **asked: Any) -> httpx.Response:
        self.edge.client.cookies.clear()
        return await self.edge.client.request(method, path, **asked)


async def made(here: World, **values: Any) -> Globe:
    machines = [
        RuntimeMachine(f"{region}-{number}", region, here.addresses.take(), **values)
        for region in ("lhr", "iad")
        for number in (1, 2)
    ]
    for machine in machines:
        machine.build()
        await here.serve(machine)
    return Globe(here, await here.edge("lhr", machines), machines)


async def pieces(size: int) -> AsyncIterator[bytes]:
    for start in range(0, size, 65536):
        yield b"x" * min(65536, size - start)
