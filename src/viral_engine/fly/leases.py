"""The lease of a machine: nobody else changes it while a block runs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from viral_engine.errors import ConflictError, LeaseHeldError, NotFoundError, PlatformError
from viral_engine.fly.client import FlyClient

TTL_S, RENEWED_EVERY_S = 13, 4.0
"""Seconds: whoever died is out of the way within the first, as with Fly.io's own command."""


@dataclass(slots=True)
class Lease:
    """A lease that is held; ``valid_until`` is counted from when the last renewal was asked for."""

    machine: str
    valid_until: float
    now: Callable[[], float]

    def check(self) -> None:
        """Raise LeaseHeldError where it may have ended: another may be at work by now."""
        if self.now() >= self.valid_until:
            raise LeaseHeldError(
                f"The lease of machine {self.machine} could not be renewed and has ended.",
                suggestion="Typed again, the command goes on where it was.",
            )


@asynccontextmanager
async def leased(
    client: FlyClient, app: str, machine: str, description: str,
    *, now: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Lease]:  # fmt: skip
    """Hold a machine's lease for the length of a block; raises LeaseHeldError.

    The client sends its nonce with every call about the machine, and it is renewed until the end.
    """
    asked = now()
    await _acquire(client, app, machine, description)
    lease = Lease(machine, asked + TTL_S, now)
    renewing = asyncio.create_task(_renew(client, app, lease, description))
    try:
        yield lease
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        with contextlib.suppress(PlatformError):  # it ends by itself all the same
            await client.request("DELETE", f"/apps/{app}/machines/{machine}/lease")
        client.nonces.pop(machine, None)


async def lease_of(client: FlyClient, app: str, machine: str) -> dict[str, object] | None:
    """Who holds a machine's lease: ``owner``, ``description``, ``expires_at``; None for nobody."""
    try:
        found = await client.request("GET", f"/apps/{app}/machines/{machine}/lease")
    except NotFoundError:
        return None
    told: dict[str, object] = found.get("data", found)
    return told


async def _acquire(client: FlyClient, app: str, machine: str, description: str) -> None:
    answer = await client.request(
        "POST", f"/apps/{app}/machines/{machine}/lease",
        json={"ttl": TTL_S, "description": description},
    )  # fmt: skip
    client.nonces[machine] = answer["data"]["nonce"]


async def _renew(client: FlyClient, app: str, lease: Lease, description: str) -> None:
    while True:
        await asyncio.sleep(RENEWED_EVERY_S)
        asked = lease.now()
        if asked >= lease.valid_until:
            return  # it has ended, and another may have come and gone: check() says so
        try:
            await _acquire(client, app, lease.machine, description)
        except (ConflictError, NotFoundError):
            return  # it is somebody else's, or the machine is gone: what is left of it runs out
        except PlatformError:
            continue
        lease.valid_until = asked + TTL_S
