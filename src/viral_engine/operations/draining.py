"""Waits until the last connection of a machine has ended, which its edges send nobody any more."""

from __future__ import annotations

from datetime import timedelta

from viral_engine.clock import NotYet, wait_until
from viral_engine.errors import OperationError, PlatformError
from viral_engine.fly.client import FlyClient
from viral_engine.operations.control import Inside, ctl

DRAINED_WITHIN = timedelta(seconds=30)
POLL = timedelta(milliseconds=500)


async def drained(client: FlyClient, inside: Inside, name: str) -> None:
    """Wait for the last connection of a cordoned machine, at most 30 s; raises WaitTimeoutError."""

    async def empty() -> bool | NotYet:
        try:
            left = (await ctl(client, inside, "connections"))["connections"]
        except (PlatformError, OperationError) as error:
            return NotYet(error.message)
        return left == 0 or NotYet(f"{left} left")

    await wait_until(
        empty, timeout=DRAINED_WITHIN, interval=POLL,
        waiting_for=f"the connections of {name} to end; it stays cordoned",
    )  # fmt: skip
