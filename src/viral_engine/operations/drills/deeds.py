"""Does one act of a story, undoes it, and has it seen by a second look."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import TypeAlias

from viral_engine.operations.drills import deeds_machines, deeds_network
from viral_engine.operations.drills.crew import Crew
from viral_engine.operations.drills.signalled import machine_of, signal
from viral_engine.operations.drills.story import Act
from viral_engine.operations.fail_over import fail_over, plan_failover
from viral_engine.operations.formation import observe_formation
from viral_engine.operations.operator_lock import operating

__all__ = ["doing"]

Deed: TypeAlias = Callable[[Crew, Act], AbstractAsyncContextManager[None]]

HELD: Mapping[str, Deed] = {
    "cut": deeds_network.links,
    "one-way": deeds_network.links,
    "blackout": deeds_network.blackout,
    "flap": deeds_network.flap,
    "delay": deeds_network.delay,
    "loss": deeds_network.loss,
    "outage": deeds_machines.outage,
    "pause": deeds_machines.pause,
    "hang": deeds_machines.hang,
    "stop": deeds_machines.stop,
    **dict.fromkeys(deeds_machines.MEDDLINGS, deeds_machines.meddle),
}
"""What lasts; all else is done at once."""


@asynccontextmanager
async def doing(crew: Crew, act: Act) -> AsyncIterator[None]:
    """Do an act, hold it for the length of the block, and undo it however that ends."""
    if act.do in HELD:
        async with HELD[act.do](crew, act):
            yield
    else:
        await _at_once(crew, act)
        yield


async def _at_once(crew: Crew, act: Act) -> None:
    """What is done and not undone; it is looked for before the story goes on."""
    region = crew.region(act)
    match act.do:
        case "kill" if act.what == "edge":
            await _kill_edge(crew, region)
        case "kill":
            await _kill(crew, act.what, region)
        case "kill-process":
            await _kill_part(crew, act.what, region)
        case "switchover":
            await _switch_over(crew, region)


async def _kill_edge(crew: Crew, region: str) -> None:
    fault = f"the edge of {region} is killed"
    since = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    await crew.globe.add_fault("kill", machine=f"edge-{region}")
    crew.mark(fault)
    crew.seen.append(await crew.witness.edge_ended(fault, region, since))


async def _kill(crew: Crew, group: str, region: str) -> None:
    fault = f"every {group} machine of {region} is killed"
    there, since = crew.of(group, region), time.time_ns() // 1_000_000
    await asyncio.gather(*(crew.globe.add_fault("kill", machine=one.machine.id) for one in there))
    crew.mark(fault)
    crew.seen.append(await crew.witness.exited(fault, there, since))


async def _kill_part(crew: Crew, part: str, region: str) -> None:
    fault = f"{part} in {region} is killed"
    found = machine_of(crew, part, region)
    killed = await signal(crew, found, part, "KILL")
    crew.mark(fault)
    crew.seen.append(await crew.witness.gone(fault, found, part, killed))


async def _switch_over(crew: Crew, region: str) -> None:
    formation = await observe_formation(crew.client)
    plan = plan_failover(formation, region)
    crew.mark(f"viral failover --to {region}")
    async with operating(crew.client, formation, crew.who, crew.progress):
        outcome = await fail_over(crew.client, formation, plan, crew.progress)
    crew.mark(outcome.sentence())
    after = await observe_formation(crew.client)
    was, now = formation.at(region).timeline or 0, after.at(region).timeline or 0
    crew.saw(f"switchover to {region}", "its own database", f"timeline {was} before, {now} then",
              holds=now > was and after.at(region).role == "primary")  # fmt: skip
