"""What is done to the ways between regions; each holds for a block and is undone after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from viral_engine.operations.drills.crew import Crew
from viral_engine.operations.drills.story import Act
from viral_engine.operations.drills.witness import dropped, lost

__all__ = ["blackout", "delay", "flap", "links", "loss"]

COUNTERS = "the network's counters"
SLOWER_AT_LEAST = 0.8
"""Of the factor that was asked for: a connection's time has other parts too."""


@asynccontextmanager
async def links(crew: Crew, act: Act) -> AsyncIterator[None]:
    """Cut pairs of regions, both ways or one."""
    pairs, both = crew.cast.pairs(act.places), act.do == "cut"
    fault = f"{act.do} {', '.join((' - ' if both else '>').join(pair) for pair in pairs)}"
    before = await crew.witness.packets()
    async with AsyncExitStack() as stack:
        for pair in pairs:
            await stack.enter_async_context(crew.globe.fault(act.do, regions=pair))
        crew.mark(fault)
        yield
        counts = dropped(before, await crew.witness.packets(), pairs)
        back = dropped(before, await crew.witness.packets(), [(b, a) for a, b in pairs])
        if both:
            holds = all(counts[f"{a}>{b}"] or back[f"{b}>{a}"] for a, b in pairs)
        else:
            holds = all(counts.values()) and not any(back.values())
        crew.saw(fault, COUNTERS, f"dropped {counts | back}", holds=holds)
    crew.mark(f"healed: {fault}")


@asynccontextmanager
async def blackout(crew: Crew, act: Act) -> AsyncIterator[None]:
    """Cut a region off from everybody, its users too."""
    region = crew.region(act)
    fault = f"blackout of {region}"
    before = await crew.witness.packets()
    async with crew.globe.fault("blackout", regions=(region,)):
        crew.mark(fault)
        yield
        others = [other for other in crew.cast.regions if other != region]
        after = await crew.witness.packets()
        counts = dropped(before, after, [(region, other) for other in others])
        counts |= dropped(before, after, [(f"users:{region}", region)])
        crew.saw(fault, COUNTERS, f"dropped {counts}", holds=any(counts.values()))
    crew.mark(f"healed: {fault}")


@asynccontextmanager
async def flap(crew: Crew, act: Act) -> AsyncIterator[None]:
    """Cut a pair and heal it, again and again."""
    (pair,) = crew.cast.pairs(act.places)
    fault = f"flap {' - '.join(pair)}"
    before = await crew.witness.packets()
    cuts = 0

    async def flap() -> None:
        nonlocal cuts
        while True:
            async with crew.globe.fault("cut", regions=pair):
                cuts += 1
                await asyncio.sleep(act.amount)
            await asyncio.sleep(act.amount)

    crew.mark(fault)
    flapping = asyncio.create_task(flap())
    try:
        yield
    finally:
        flapping.cancel()
        await asyncio.gather(flapping, return_exceptions=True)
    counts = dropped(before, await crew.witness.packets(), [pair, pair[::-1]])
    crew.saw(fault, COUNTERS, f"{cuts} cuts, dropped {counts}",
              holds=cuts > 1 and any(counts.values()))  # fmt: skip
    crew.mark(f"healed: {fault}")


@asynccontextmanager
async def delay(crew: Crew, act: Act) -> AsyncIterator[None]:
    """Make every way so many times as long."""
    fault = f"every way takes {act.amount:g} times as long"
    (origin,) = crew.of("database", crew.cast.primary)
    (target,) = crew.of("database", crew.cast.region("replica"))
    before = await crew.witness.reach(origin, target)
    async with crew.globe.fault("delay", amount=act.amount):
        crew.mark(fault)
        yield
        after = await crew.witness.reach(origin, target)
        holds = bool(before and after and after > SLOWER_AT_LEAST * act.amount * before)
        crew.saw(fault, "a connection's time", f"{before} ms before, {after} ms then", holds=holds)
    crew.mark("ways are as long as they were")


@asynccontextmanager
async def loss(crew: Crew, act: Act) -> AsyncIterator[None]:
    """Lose a share of all packets."""
    fault = f"{100 * act.amount:g} % of packets are lost"
    before = await crew.witness.packets()
    async with crew.globe.fault("loss", amount=act.amount):
        crew.mark(fault)
        yield
        count = lost(before, await crew.witness.packets())
        crew.saw(fault, COUNTERS, f"{count} lost", holds=count > 0)
    crew.mark("packets arrive again")
