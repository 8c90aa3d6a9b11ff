"""What is done to machines and to parts of them for the length of a block, and undone after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from viral_engine.errors import PlatformError
from viral_engine.operations.change_duty import change_duty
from viral_engine.operations.drills.crew import Crew
from viral_engine.operations.drills.signalled import ASKED_WITHIN, machine_of, signal
from viral_engine.operations.drills.story import Act
from viral_engine.operations.duty import Act as Duty
from viral_engine.operations.duty import plan_duty
from viral_engine.operations.formation import observe_formation

__all__ = ["MEDDLINGS", "hang", "meddle", "outage", "pause", "stop"]

MEDDLER = "viral_engine.operations.drills.meddler"

MEDDLINGS: Mapping[str, tuple[str, str]] = {
    "lock": ("a lock is held that writes wait for", "waited"),
    "cancel-commits": ("commits that wait for another region are cancelled", "cancelled"),
    "hang-up": ("every connection of the app is ended, again and again", "ended"),
    "lock-for-all": ("a lock that nothing passes is taken, each second", "taken"),
    "long-read": ("a long transaction reads", "ended for what was replayed"),
    "alter": ("a table in use gets a column, and loses it", "changes"),
}
"""What is said of a deed of the meddler's, and what it counts."""


@asynccontextmanager
async def outage(crew: Crew, act: Act) -> AsyncIterator[None]:
    """Take the hosts of a region: every process of it ends at once, and none is started."""
    region = crew.region(act)
    fault = f"outage of {region}"
    there = crew.within(region)
    since = time.time_ns() // 1_000_000
    async with crew.globe.fault("outage", regions=(region,)):
        crew.mark(fault)
        crew.seen.append(await crew.witness.exited(fault, there, since))
        yield
    crew.mark(f"over: {fault}")


@asynccontextmanager
async def pause(crew: Crew, act: Act) -> AsyncIterator[None]:
    """Freeze every process of a region, its edge's too."""
    region = crew.region(act)
    fault = f"all of {region} is frozen"
    there = crew.within(region)
    ids = [one.machine.id for one in there]
    if crew.of("app", region):
        ids.append(f"edge-{region}")
    async with AsyncExitStack() as stack:
        for machine in ids:
            await stack.enter_async_context(crew.globe.fault("pause", machine=machine))
        crew.mark(fault)
        yield
        for one in crew.of("database", region):
            crew.seen.append(await crew.witness.stopped(fault, one, "patroni"))
    crew.mark(f"all of {region} goes on")


@asynccontextmanager
async def hang(crew: Crew, act: Act) -> AsyncIterator[None]:
    """Stop a part of a machine while all else there runs on."""
    region = crew.region(act)
    fault = f"{act.what} in {region} hangs"
    found = machine_of(crew, act.what, region)
    if not await signal(crew, found, act.what, "STOP"):
        raise PlatformError(f"No {act.what} is there in {region} that could hang.")
    try:
        crew.mark(fault)
        yield
        crew.seen.append(await crew.witness.stopped(fault, found, act.what))
    finally:
        await signal(crew, found, act.what, "CONT")
    crew.mark(f"{act.what} in {region} goes on")


@asynccontextmanager
async def meddle(crew: Crew, act: Act) -> AsyncIterator[None]:
    """Meddle with a database from inside its machine; that ends by itself."""
    region = crew.region(act)
    fault, seen_by = MEDDLINGS[act.do]
    fault = f"{fault} in {region}"
    (found,) = crew.of("database", region)
    command = ["python", "-m", MEDDLER, act.do, str(act.lasts)]
    within = timedelta(seconds=act.lasts) + ASKED_WITHIN
    crew.mark(fault)
    meddling = asyncio.create_task(
        crew.client.exec(found.app, found.machine.id, command, timeout=within)
    )
    try:
        yield
    finally:
        done = await meddling
    count = done.stdout.strip() or "0"
    crew.saw(fault, "the database itself", f"{count} {seen_by} {done.stderr[-200:]}".rstrip(),
              holds=count.isdigit() and int(count) > 0)  # fmt: skip
    crew.mark(f"over: {fault}")


@asynccontextmanager
async def stop(crew: Crew, act: Act) -> AsyncIterator[None]:
    """Stop every machine of a region as an operator would, and start them again."""
    region = crew.region(act)
    fault = f"the machines of {region} are stopped"
    there = crew.within(region)
    since = time.time_ns() // 1_000_000
    crew.mark(f"viral stop {region} --force")
    try:
        await _duty(crew, Duty.STOP, region)
        crew.mark(fault)
        crew.seen.append(await crew.witness.exited(fault, there, since))
        yield
    finally:
        await _duty(crew, Duty.START, region)
    crew.mark(f"the machines of {region} run again")


async def _duty(crew: Crew, duty: Duty, region: str) -> None:
    formation = await observe_formation(crew.client)
    plan = plan_duty(formation, duty, region, force=True)
    await change_duty(crew.client, formation, plan, crew.progress)
