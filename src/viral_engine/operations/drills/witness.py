"""A second look at every fault: not the word of whoever made it. What it did not see is unknown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

from viral_engine.clock import NotYet, wait_until
from viral_engine.errors import PlatformError, WaitTimeoutError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.extension import GlobeExtension
from viral_engine.operations.drills.verdict import Ruling
from viral_engine.operations.observe import Found

__all__ = ["Packets", "Seen", "Witness", "dropped", "lost"]

SEEN_WITHIN = timedelta(seconds=15)
ASKED_WITHIN = timedelta(seconds=15)
LOOK_EVERY = timedelta(milliseconds=300)
PARTS = "viral_engine.operations.drills.parts"
REACH = "viral_engine.operations.drills.reach"

Packets: TypeAlias = Mapping[tuple[str, str], tuple[int, int]]
"""By pair of places, in order: packets lost, and packets dropped by a cut."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a second look showed of a fault, and by which means."""

    fault: str
    by: str
    ruling: Ruling
    saw: str


def seen(fault: str, by: str, saw: str, *, holds: bool) -> Seen:
    """Return what a look says: that the fault was there, or that nobody knows."""
    return Seen(fault, by, Ruling.KEPT if holds else Ruling.UNKNOWN, saw)


def dropped(before: Packets, after: Packets, pairs: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Count what the network dropped meanwhile from the first to the second of each pair."""
    return {f"{a}>{b}": _of(after, a, b)[1] - _of(before, a, b)[1] for a, b in pairs}


def lost(before: Packets, after: Packets) -> int:
    """Count what the network lost meanwhile, between all places."""
    return sum(after[pair][0] - before.get(pair, (0, 0))[0] for pair in after)


def _of(packets: Packets, origin: str, target: str) -> tuple[int, int]:
    return packets.get((origin, target), (0, 0))


@dataclass(frozen=True, slots=True)
class Witness:
    """Looks at a deployment by other ways than those by which faults are made."""

    client: FlyClient

    async def packets(self) -> Packets:
        """Return what the network counted so far."""
        rows = await GlobeExtension(self.client).packets()
        return {(row[0], row[1]): (int(row[3]), int(row[4])) for row in rows}

    async def parts(self, found: Found, part: str) -> Sequence[Mapping[str, Any]]:
        """Return the processes of a part of a machine; none where it cannot be entered."""
        command = ["python", "-m", PARTS, part, "LOOK", found.machine.id]
        try:
            done = await self.client.exec(
                found.app, found.machine.id, command, timeout=ASKED_WITHIN
            )
        except PlatformError:
            return ()
        listed: list[Mapping[str, Any]] = json.loads(done.stdout) if done.exit_code == 0 else []
        return listed

    async def gone(self, fault: str, found: Found, part: str, before: Iterable[int]) -> Seen:
        """Look until none of the processes that were there is."""
        killed = set(before)

        async def are_gone() -> str | NotYet:
            now = {one["pid"]: one["began"] for one in await self.parts(found, part)}
            left = killed & set(now)
            if left or not killed:
                return NotYet(f"{len(left)} of {len(killed)} still there")
            return f"{sorted(killed)} gone, now {sorted(now) or 'none'}"

        return await self._looked(fault, "the machine's process table", are_gone)

    async def stopped(self, fault: str, found: Found, part: str) -> Seen:
        """Look once whether every process of a part is stopped."""
        states = [one["state"] for one in await self.parts(found, part)]
        holds = bool(states) and set(states) == {"T"}
        return seen(fault, "the machine's process table", f"{part}: {states}", holds=holds)

    async def exited(self, fault: str, machines: Sequence[Found], since_ms: int) -> Seen:
        """Look until the platform tells the end of each machine."""

        async def have_exited() -> str | NotYet:
            shown = await asyncio.gather(
                *(self.client.get_machine(one.app, one.machine.id) for one in machines)
            )
            ended = [
                one.name
                for one in shown
                if any(e.type == "exit" and e.timestamp >= since_ms for e in one.events)
            ]
            if not shown or len(ended) < len(shown):
                return NotYet(f"{len(ended)} of {len(shown)} ended")
            return f"ended: {', '.join(ended)}"

        return await self._looked(fault, "the machines' events", have_exited)

    async def edge_ended(self, fault: str, region: str, since: str) -> Seen:
        """Look until the edge of a region has told its end."""

        async def has_ended() -> str | NotYet:
            lines = GlobeExtension(self.client).logs(machine=f"edge-{region}")
            async for line in lines:
                if line["at"] >= since and "exited" in line["line"]:
                    return str(line["line"])
            return NotYet("no word of it")

        return await self._looked(fault, "the edge's log", has_ended)

    async def reach(self, origin: Found, target: Found) -> float | None:
        """Return the milliseconds of a connection from one machine to another; None without one."""
        command = ["python", "-m", REACH, target.machine.private_ip]
        try:
            done = await self.client.exec(
                origin.app, origin.machine.id, command, timeout=ASKED_WITHIN
            )
            return float(done.stdout)
        except (PlatformError, ValueError):
            return None

    async def _looked(
        self, fault: str, by: str, look: Callable[[], Awaitable[str | NotYet]]
    ) -> Seen:
        try:
            saw = await wait_until(
                look, timeout=SEEN_WITHIN, interval=LOOK_EVERY, waiting_for=f"signs of: {fault}"
            )
        except (WaitTimeoutError, PlatformError) as error:
            return seen(fault, by, error.message, holds=False)
        return seen(fault, by, saw, holds=True)
