"""One deploy at a time: the lease of the deployment's oldest machine, renewed until the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from viral_engine.errors import LeaseHeldError, PlatformError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.leases import Lease, leased
from viral_engine.fly.model import Machine
from viral_engine.operations.blueprint import Blueprint, apps, places
from viral_engine.operations.deploy.make import TRIES, may_have_happened
from viral_engine.operations.operator_lock import Operator, other_operator


@asynccontextmanager
async def deploying(
    client: FlyClient, blueprint: Blueprint, operator: Operator
) -> AsyncIterator[Lease]:
    """Hold the lock of a deployment whose apps exist; raises OtherOperatorError with who has it.

    Where there is no machine yet, one of those that are wanted is made, without being started: two
    who begin at once see each other's, and agree on the older.
    """
    app, machine = await _oldest(client, blueprint)
    async with AsyncExitStack() as stack:
        lease = leased(client, app, machine.id, f"{operator.what} by {operator.who}")
        try:
            held = await stack.enter_async_context(lease)
        except LeaseHeldError as error:
            raise await other_operator(client, app, machine.id, error) from error
        yield held


async def _oldest(client: FlyClient, blueprint: Blueprint) -> tuple[str, Machine]:
    """The machine whose lease is the lock, with its app."""
    names = apps(blueprint.deployment)
    for attempt in range(1, TRIES + 1):
        if machines := await _machines(client, names):
            break
        try:
            await _make_first(client, blueprint)
        except PlatformError as error:
            if attempt == TRIES or not may_have_happened(error):
                raise
    machines = await _machines(client, names)  # made by now, and another's perhaps
    return min(machines, key=lambda one: (one[1].created_at, one[1].id))


async def _machines(client: FlyClient, names: tuple[str, ...]) -> list[tuple[str, Machine]]:
    lists = await asyncio.gather(*map(client.list_machines, names))
    return [(app, m) for app, found in zip(names, lists, strict=True) for m in found]


async def _make_first(client: FlyClient, blueprint: Blueprint) -> None:
    """Make a machine without a volume, as the plan's own drafts are."""
    place = next(p for p in places(blueprint.deployment) if not p.volume_gb)
    config = blueprint.config(place, None).model_copy(update={"env": {}})
    await client.create_machine(
        place.app, name=place.name, region=place.region, config=config, launch=False
    )
