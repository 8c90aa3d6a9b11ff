"""The edges of a globe: one Envoy a region, told of every change, and where anycast leads."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from viral_engine.fly.model import Check
from viral_engine.globe import edge
from viral_engine.globe.logbook import LogBook
from viral_engine.globe.machines.checks import PASSING, NamedCheck, attempt
from viral_engine.globe.machines.process import Launch, MachineProcess
from viral_engine.globe.network.addresses import AddressPlan, users
from viral_engine.globe.platform import Platform
from viral_engine.globe.traffic import HTTP_PORT, view_of

SETTLE = 0.02
"""Seconds that changes are gathered before the edges are told."""

RESTART_DELAY = 0.5

PROBE_INTERVAL, PROBE_TIMEOUT, PROBE_FAILURES = 0.5, 1.0, 2
ANYCAST_MOVES_WITHIN = timedelta(seconds=PROBE_FAILURES * (PROBE_INTERVAL + PROBE_TIMEOUT))
"""How long users of a lost edge are led to it still; a real network takes longer."""


@dataclass(eq=False, slots=True)
class Edges:
    """Runs the edges of ``regions`` from ``run()``; ``route`` is told which of them are alive."""

    platform: Platform
    regions: tuple[str, ...]
    folder: Path
    logs: LogBook
    isolate: bool
    envoy: Path
    route: Callable[[frozenset[str]], Awaitable[None]]
    alive: frozenset[str] = frozenset()
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _misses: dict[str, int] = field(default_factory=dict)
    _running: dict[str, MachineProcess] = field(default_factory=dict)
    _hosts: dict[str, asyncio.Event] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for region in self.regions:
            self._hosts[region] = asyncio.Event()
            self._hosts[region].set()

    @property
    def plan(self) -> AddressPlan:
        """The addresses of the globe."""
        return self.platform.network.plan

    def process(self, region: str) -> MachineProcess | None:
        """The edge of a region, for faults; one that ends is started again. None where none runs."""
        return self._running.get(region)

    def take_host(self, region: str) -> None:
        """End the edge of a region at once, and start none until its host is given back."""
        if region in self._hosts:
            self._hosts[region].clear()
        if region in self._running:
            self._running[region].kill()

    def give_host(self, region: str) -> None:
        """Let the edge of a region be started again."""
        if region in self._hosts:
            self._hosts[region].set()

    async def run(self) -> None:
        """Publish, run and probe every edge until cancelled."""
        self._publish()
        self.platform.on_change.append(self._changed.set)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish_changes())
            for region in self.regions:
                group.create_task(self._keep_running(region))
                group.create_task(self._probe(region))

    async def _publish_changes(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(SETTLE)
            self._changed.clear()
            self._publish()

    def _publish(self) -> None:
        for region in self.regions:
            view = view_of(region, plan=self.plan, machines=self.platform.machines())
            edge.publish(self.folder / region, edge.render(view, self.folder / region))

    async def _keep_running(self, region: str) -> None:
        while True:
            await self._hosts[region].wait()
            process = self._running[region] = await MachineProcess.start(self._launch(region))
            if not self._hosts[region].is_set():
                process.kill()  # it was taken while the edge was being started
            try:
                hearing = asyncio.create_task(process.lines(lambda line: self._hear(region, line)))
                code = await process.wait()
                hearing.cancel()
            finally:
                del self._running[region]
                process.kill()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(process.wait())
            self._hear(region, f"the edge exited with {code}")
            await asyncio.sleep(RESTART_DELAY)

    def _launch(self, region: str) -> Launch:
        folder = self.folder / region
        return Launch(
            argv=tuple(edge.command(folder, self.envoy)),
            env={"PATH": os.defpath, "HOME": str(folder)},
            cwd=folder,
            namespace=self.platform.network.namespace(region),
            isolate=self.isolate,
        )

    def _hear(self, region: str, line: str) -> None:
        self.logs.write(region=region, machine=f"edge-{region}", role="edge", line=line)

    async def _probe(self, region: str) -> None:
        check = Check(type="http", path=edge.ALIVE_PATH, timeout=timedelta(seconds=PROBE_TIMEOUT))
        named = NamedCheck("edge", HTTP_PORT, check)
        open_socket = self.platform.network.open_socket_in(users(region))
        while True:
            result = await attempt(named, self.plan.edge(region), open_socket)
            answered = result.status == PASSING
            self._misses[region] = 0 if answered else self._misses.get(region, 0) + 1
            dead = self._misses[region] >= PROBE_FAILURES
            alive = (
                self.alive - {region} if dead else self.alive | ({region} if answered else set())
            )
            if alive != self.alive:
                self.alive = frozenset(alive)
                await self.route(self.alive)
            await asyncio.sleep(PROBE_INTERVAL)
