"""The stage of a drill: a deployment that runs, what can be broken in it, and when it is well again.

What is asked of databases and of the store goes by the platform's ``exec``, as an operator would;
what is broken goes by the globe's extension, which other platforms do not have.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from viral_engine.clock import NotYet, wait_until
from viral_engine.errors import PlatformError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.extension import GlobeExtension
from viral_engine.operations.drills.clients import Book
from viral_engine.operations.observe import Found, find_machines

__all__ = ["Mark", "Stage", "pause"]

WELL_WITHIN = timedelta(seconds=180)
WRITTEN_WITHIN = timedelta(seconds=60)
REVOKED_WITHIN = timedelta(seconds=40)
NOBODY = "nobody has the primary's lock"
ASKED_WITHIN = timedelta(seconds=30)
LOOK_EVERY = timedelta(milliseconds=200)
ASK_EVERY = timedelta(seconds=1)

PARTS = "viral_engine.operations.drills.parts"
"""What is run inside a machine to stop a part of it, and to let that go on."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that the story did, at a time of the history's clock (ns)."""

    at: int
    what: str


async def pause(length: timedelta) -> None:
    """Let the load go on for so long, if at all: time is what a story is made of."""
    await asyncio.sleep(max(0.0, length.total_seconds()))


@dataclass(slots=True)
class Stage:
    """A deployment with edges by region, and what the story did to it in ``marks``."""

    client: FlyClient
    edges: Mapping[str, str]
    say: Callable[[str], None]
    marks: list[Mark] = field(default_factory=list)
    _machines: list[Found] = field(default_factory=list)

    def __post_init__(self) -> None:
        # A kept connection that the platform closes at that moment would look like its absence.
        self.client.http.headers["connection"] = "close"

    def mark(self, what: str) -> int:
        """Note what happens now and return the time of the history's clock."""
        now = time.monotonic_ns()
        self.marks.append(Mark(now, what))
        self.say(what)
        return now

    async def machines(self, role: str) -> list[Found]:
        """Return the machines of a role; their number does not change during a drill."""
        if not self._machines:
            self._machines = await find_machines(self.client)
        return [found for found in self._machines if found.machine.role == role]

    async def well(self) -> str:
        """Wait until one database is the primary and all others stream from it; return its region.

        The synchronous standby must be there too: a planned move would be refused without it.
        """
        told = await self.well_told(within=WELL_WITHIN)
        return str(told[0]["primary"])

    async def well_told(self, *, within: timedelta) -> list[dict[str, Any]]:
        """Wait in the same way and return what every database machine told then."""

        async def is_well() -> list[dict[str, Any]] | NotYet:
            databases = await self.machines("database")
            told = await asyncio.gather(*(self._ctl(one, "status") for one in databases))
            primaries = {str(one.get("primary")) for one in told}
            roles = sorted(str(one.get("role")) for one in told)
            standbys = [one for one in told[0].get("members") or () if one["role"] != "primary"]
            if len(primaries) != 1 or roles.count("primary") != 1 or "unknown" in roles:
                return NotYet(f"primaries {sorted(primaries)}, roles {roles}")
            if any(one["state"] != "streaming" for one in standbys):
                return NotYet(f"states {[one['state'] for one in standbys]}")
            if standbys and not any(one["synchronous"] for one in standbys):
                return NotYet("no synchronous standby")
            return told

        return await wait_until(
            is_well, timeout=within, interval=ASK_EVERY,
            waiting_for="one primary with all others streaming",
        )  # fmt: skip

    @asynccontextmanager
    async def alone(self, region: str) -> AsyncIterator[None]:
        """Cut a region off from every other one, both ways; its own users still reach it."""
        globe = GlobeExtension(self.client)
        others = dict.fromkeys(found.machine.region for found in await find_machines(self.client))
        async with AsyncExitStack() as stack:
            for other in others:
                if other != region:
                    await stack.enter_async_context(globe.fault("cut", regions=(region, other)))
            self.mark(f"{region} is cut off")
            yield
        self.mark(f"{region} is back")

    @asynccontextmanager
    async def hung(self, part: str, region: str) -> AsyncIterator[None]:
        """Stop ``patroni`` or ``replay`` in a region's database machine; all else there runs on."""
        (found,) = (f for f in await self.machines("database") if f.machine.region == region)
        await self._hang(found, part, "STOP")
        self.mark(f"{part} in {region} hangs")
        try:
            yield
        finally:
            await self._hang(found, part, "CONT")
            self.mark(f"{part} in {region} goes on")

    @asynccontextmanager
    async def slow(self, factor: float) -> AsyncIterator[None]:
        """Make every way between regions so many times as long."""
        async with GlobeExtension(self.client).fault("delay", amount=factor):
            self.mark(f"every way takes {factor:g} times as long")
            yield
        self.mark("ways are as long as they were")

    async def kill(self, region: str) -> None:
        """Kill the database machine of a region as a power cut would; the platform restarts it."""
        for found in await self.machines("database"):
            if found.machine.region == region:
                await GlobeExtension(self.client).add_fault("kill", machine=found.machine.id)
        self.mark(f"the database of {region} is killed")

    async def revoke(self) -> int:
        """Take the primary's lock from it, from the witness's side; return when that was done."""
        (witness,) = await self.machines("witness")

        async def revoked() -> bool | NotYet:
            told = await self._ctl(witness, "revoke")
            # An answer that came too late has done it all the same.
            return "revoked" in told or NOBODY in str(told) or NotYet(str(told))

        await wait_until(
            revoked, timeout=REVOKED_WITHIN, waiting_for="the primary's lock to be revoked"
        )
        return self.mark("the lock is revoked")

    async def switch_over(self, to: str) -> None:
        """Hand the primary over to a region, as planned."""
        found = next(f for f in await self.machines("database") if f.machine.region == to)
        self.mark(f"switchover to {to}")
        told = await self._ctl(found, "switchover", "--to", to, within=WELL_WITHIN)
        self.mark(f"switchover: {told.get('error') or 'done'}")

    async def written(self, book: Book, *, lost: str, since: int) -> None:
        """Wait until users of any other region have written after ``since``."""
        others = frozenset(self.edges) - {lost}
        await wait_until(
            lambda: book.has_written(in_regions=others, since=since),
            timeout=WRITTEN_WITHIN, interval=LOOK_EVERY,
            waiting_for=f"a write from {', '.join(sorted(others))}",
        )  # fmt: skip
        self.mark("writes succeed elsewhere")

    async def _hang(self, found: Found, part: str, word: str) -> None:
        command = ["python", "-m", PARTS, part, word, found.machine.id]
        done = await self.client.exec(found.app, found.machine.id, command, timeout=ASKED_WITHIN)
        if done.exit_code or not json.loads(done.stdout):
            raise PlatformError(f"No {part} got SIG{word}: {done.stderr or done.stdout}")

    async def _ctl(
        self, found: Found, *words: str, within: timedelta = ASKED_WITHIN
    ) -> dict[str, Any]:
        """Run ``viral node ctl`` in a machine; what went wrong is under ``error``."""
        command = ["viral", "node", "ctl", *words]
        try:
            done = await self.client.exec(found.app, found.machine.id, command, timeout=within)
        except PlatformError as error:
            return {"error": error.message}
        if done.exit_code:
            return {"error": (done.stderr or done.stdout).strip()}
        said: dict[str, Any] = json.loads(done.stdout)
        return said
