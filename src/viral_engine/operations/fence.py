"""Makes sure that a machine does nothing any more, before another takes its place."""

from __future__ import annotations

import time
from datetime import timedelta

from viral_engine.clock import NotYet, wait_until
from viral_engine.errors import PlatformError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import MachineState
from viral_engine.operations.control import Inside
from viral_engine.operations.formation import PRIMACY_LAPSES_S, Standing, ask_standing

STOPPED_WITHIN = timedelta(seconds=60)
LAPSED_WITHIN = timedelta(seconds=40)
POLL = timedelta(milliseconds=500)


async def fence(client: FlyClient, machine: Inside) -> str:
    """Cordon and stop a machine and see that it is stopped; return why not, or nothing.

    Cordoned, so that neither a user's request nor an edge that sees it start brings it back; what
    cannot be cordoned is stopped all the same, and then not called fenced.
    """
    uncordoned = ""
    try:
        await client.cordon_machine(machine.app, machine.machine)
    except PlatformError as error:
        uncordoned = f"it could not be cordoned: {error.message}"
    try:
        await client.stop_machine(machine.app, machine.machine)
        await client.wait_for(
            machine.app, machine.machine, MachineState.STOPPED, timeout=STOPPED_WITHIN
        )
    except PlatformError as error:
        return error.message
    return uncordoned


async def until_lapsed(client: FlyClient, target: Standing, was: str) -> None:
    """Wait until the old primary can acknowledge nothing, though nobody could stop it.

    As seen from the target its key has not changed for 5 s, and 5 s have passed since this was
    asked: a renewal that was on its way when the others were stopped has run out as well.
    """
    begun = time.monotonic()

    async def lapsed() -> bool | NotYet:
        now = await ask_standing(client, target)
        if now.error:
            return NotYet(now.error)
        if time.monotonic() - begun < PRIMACY_LAPSES_S or now.sees_renewed() == was:
            return NotYet(f"{was} renewed it {now.unchanged_s} s ago")
        return True

    await wait_until(
        lapsed, timeout=LAPSED_WITHIN, interval=POLL,
        waiting_for=f"primacy to end in {was}, which the platform could not stop",
    )  # fmt: skip
