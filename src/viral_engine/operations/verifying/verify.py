"""Asks everything once, and says what follows; nothing is waited for and nothing is asked again."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

from viral_engine.errors import OperationError
from viral_engine.fly.app_settings import AppSettings
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import Machine
from viral_engine.operations.blueprint import apps, places
from viral_engine.operations.deploy.found import Found, observe
from viral_engine.operations.formation import Formation, observe_formation
from viral_engine.operations.observe import database_view
from viral_engine.operations.verifying.askers import Asker
from viral_engine.operations.verifying.asks import Answer
from viral_engine.operations.verifying.judge import (
    certificate_line,
    machine_line,
    no_database_line,
    read_line,
    replay_line,
    replication_lines,
    strong_line,
    token_line,
    write_line,
)
from viral_engine.operations.verifying.line import Line, Ruling
from viral_engine.operations.verifying.probe import Probe
from viral_engine.topology.model import Deployment

__all__ = ["Verification", "serving"]


@dataclass(frozen=True, slots=True)
class Verification:
    """One verification, seen from ``regions``; ``issues_certificates`` is whether the platform does."""

    client: FlyClient
    deployment: Deployment
    probe: Probe
    asker: Asker
    regions: tuple[str, ...]
    issues_certificates: bool
    draw: Callable[[], int] = lambda: secrets.randbelow(10**9)
    """What is written: another value each time, so that an old one is not taken for it."""

    async def run(self) -> list[Line]:
        """Look at everything; raises PlatformError where the platform does not answer."""
        found, formation, lags = await asyncio.gather(
            observe(self.client, apps(self.deployment)), self._formation(), self._lags()
        )
        lines = list(self._machines(found))
        lines += [line async for line in self._asked(found, formation)]
        if formation is None:
            lines.append(no_database_line(self.deployment.database.provider))
        else:
            lines += replication_lines(formation, lags)
        return lines + [line async for line in self._certificates()]

    async def _formation(self) -> Formation | None:
        try:
            return await observe_formation(self.client)
        except OperationError:  # there is no database machine
            return None

    async def _lags(self) -> dict[str, float | None]:
        view = await database_view(self.client)
        return {node["region"]: node["lag_seconds"] for node in view["nodes"]}

    def _machines(self, found: Found) -> Iterator[Line]:
        for place in places(self.deployment):
            if place.region in self.regions or place.region not in self.deployment.region_codes:
                yield machine_line(place, found.machine(place.app, place.name))

    async def _asked(self, found: Found, formation: Formation | None) -> AsyncIterator[Line]:
        primary = formation.primary.region if formation and formation.primary else None
        near = tuple(dict.fromkeys(m.region for m in serving(found, self.deployment.app)))
        for number, region in enumerate(self.regions):
            asks = [self.probe.read(), self.probe.read_strong()]
            value = self.draw()
            if self.probe.writes is not None:
                asks.append(self.probe.write(value))
            read, strong, *written = await self.asker.ask(region, asks)
            yield read_line(region, read, near)
            yield strong_line(region, strong, primary)
            for answer in written:
                yield write_line(region, answer, primary)
            if primary is not None and region != primary:
                yield replay_line(region, (strong, *written), primary)
            for answer in written:
                yield await self._token(number, answer, value)

    async def _token(self, number: int, written: Answer, value: int) -> Line:
        """Read what was written from one region in the next one, and what it wrote there before."""
        writer, reader = self.regions[number], self._next(number)
        if reader is None:
            return Line(f"token of {writer}", "", Ruling.UNKNOWN, "there is one region only",
                        "its own write is read in another region")  # fmt: skip
        token = written.headers.get("viral-session", "")
        (read,) = await self.asker.ask(reader, [self.probe.read_back(token)])
        return token_line(writer, reader, written, read, value if self.probe.is_ours else None)

    def _next(self, number: int) -> str | None:
        """Another region: the next of those that are asked, else any other."""
        here = self.regions[number]
        after = (*self.regions[number + 1 :], *self.regions, *self.deployment.region_codes)
        return next((region for region in after if region != here), None)

    async def _certificates(self) -> AsyncIterator[Line]:
        hostnames = self.deployment.service.hostnames
        if not self.issues_certificates:
            yield Line("certificate", "", Ruling.UNKNOWN, "a globe issues none", "issued")
            return
        if not hostnames:
            yield Line("certificate", "", Ruling.UNKNOWN, "no hostname is declared", "issued")
        settings = AppSettings(self.client)
        for hostname in hostnames:
            yield certificate_line(
                hostname, await settings.certificate(self.deployment.app, hostname)
            )


def serving(found: Found, app: str) -> list[Machine]:
    """The app machines that users can be led to."""
    return [m for m in found.app(app).machines if m.role == "app" and m.healthy and not m.cordoned]
