"""Keeps a prober in every database machine for the length of a drill."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from viral_engine.errors import PlatformError
from viral_engine.fly.client import FlyClient
from viral_engine.operations.drills.probes import Probe, read_probes
from viral_engine.operations.observe import Found

__all__ = ["probed"]

PROBER = "viral_engine.operations.drills.prober"
ANSWERS_WITHIN_S = 15.0
AGAIN_AFTER_S = 0.5


@asynccontextmanager
async def probed(
    client: FlyClient, machines: Iterable[Found], *, seconds: float
) -> AsyncIterator[Mapping[str, Sequence[Probe]]]:
    """Try every database for so many seconds; what was answered, by region, is there when it is left.

    Left early, it gives up what was not told yet.
    """
    ends = time.monotonic() + seconds
    found: dict[str, list[Probe]] = {one.machine.region: [] for one in machines}
    async with asyncio.TaskGroup() as group:
        for one in machines:
            group.create_task(_follow(client, one, ends, found[one.machine.region]))
        yield found


async def _follow(client: FlyClient, found: Found, ends: float, kept: list[Probe]) -> None:
    """Keep a prober in a machine until the end; where the machine dies, another when it is back."""
    region = found.machine.region
    while (left := ends - time.monotonic()) > AGAIN_AFTER_S:
        command = ["python", "-m", PROBER, f"{left:.1f}"]
        within = timedelta(seconds=left + ANSWERS_WITHIN_S)
        with suppress(PlatformError):
            done = await client.exec(found.app, found.machine.id, command, timeout=within)
            kept += read_probes(done.stdout.splitlines(), region)
        now = time.monotonic_ns()
        kept.append(Probe(region, now, now, "silent"))  # nobody is there to be asked
        await asyncio.sleep(AGAIN_AFTER_S)
