"""Whether a deployment is fit for a drill: a story that begins in trouble proves nothing."""

from __future__ import annotations

from datetime import timedelta

from viral_engine.clock import NotYet, wait_until
from viral_engine.errors import NotFoundError, RefusedError, UnsupportedError, WaitTimeoutError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.extension import GlobeExtension
from viral_engine.fly.model import MachineState
from viral_engine.operations.drills.cast import Look
from viral_engine.operations.drills.stories import Stage
from viral_engine.operations.drills.story import Story
from viral_engine.operations.formation import observe_formation
from viral_engine.operations.observe import Found, find_machines
from viral_engine.operations.operator_lock import refuse_other

__all__ = ["network_for", "sound_machines", "until_well"]

SEE = "See: viral status."
HEALTHY_WITHIN = timedelta(seconds=30)
LOOK_EVERY = timedelta(seconds=1)


async def network_for(client: FlyClient, story: Story) -> str:
    """Return the globe's network; raises UnsupportedError where the story cannot be played in it.

    Raises RefusedError where something is broken already.
    """
    try:
        status = await GlobeExtension(client).status()
    except NotFoundError as error:
        raise UnsupportedError(
            "This platform cannot break anything on purpose.",
            suggestion="Drills run on a globe. Start one with: viral up.",
        ) from error
    network = str(status["network"])
    if network == "flat" and story.needs_wan:
        raise UnsupportedError(
            f"The drill {story.name} needs the wan network, and this globe is flat.",
            suggestion="Start it with: viral up --network wan.",
        )
    if status["faults"]:
        kinds = ", ".join(one["kind"] for one in status["faults"])
        raise RefusedError(
            f"Something is broken on purpose already: {kinds}.",
            suggestion="Undo it: viral fault clear.",
        )
    return network


async def sound_machines(client: FlyClient) -> list[Found]:
    """Return all machines; raises RefusedError where one stays ill, or an operator is at work."""
    refuse_other(await observe_formation(client))
    try:
        return await wait_until(
            lambda: _healthy(client), timeout=HEALTHY_WITHIN, interval=LOOK_EVERY,
            waiting_for="every machine to be healthy",
        )  # fmt: skip
    except WaitTimeoutError as error:
        raise RefusedError(
            f"The deployment is not well: {error.message}.", suggestion=SEE
        ) from error


async def _healthy(client: FlyClient) -> list[Found] | NotYet:
    machines = await find_machines(client)
    ill = [one.machine.name for one in machines if not _is_well(one)]
    return NotYet(f"{', '.join(ill)} not healthy") if ill else machines


def _is_well(one: Found) -> bool:
    return one.machine.state is MachineState.STOPPED or one.machine.healthy


async def until_well(stage: Stage, *, within: timedelta) -> Look:
    """Return what the databases say once all is well; raises RefusedError where it is not in time."""
    try:
        return Look.of(await stage.well_told(within=within))
    except WaitTimeoutError as error:
        raise RefusedError(
            f"The deployment is not well: {error.message}.", suggestion=SEE
        ) from error
