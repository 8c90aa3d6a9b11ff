"""One operator at a time: a lock in etcd that lives as long as the command that took it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from viral_engine.errors import OperationError, OtherOperatorError, PlatformError
from viral_engine.fly.client import FlyClient
from viral_engine.operations.control import ctl_anywhere
from viral_engine.operations.formation import Formation, Standing
from viral_engine.operations.progress import Progress

PROLONG_EVERY_S = 4.0
"""Seconds; the lock of a command that died ends 15 s after it was last prolonged."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Who does something, and what, in the words that another operator is told."""

    who: str
    what: str


@asynccontextmanager
async def operating(
    client: FlyClient, formation: Formation, operator: Operator, progress: Progress
) -> AsyncIterator[None]:
    """Hold the operators' lock for the length of a block; raises OtherOperatorError.

    Where etcd has no majority nobody can have it: that is told to ``progress``, and the block runs.
    """
    machines = formation.answering()
    holder = secrets.token_hex(8)
    try:
        await _take(client, machines, holder, operator)
    except OtherOperatorError:
        raise
    except (PlatformError, OperationError) as error:
        if any(one.majority for one in machines):
            raise
        progress.seen("lock", f"etcd has no majority: no lock can be had ({error.message})")
        yield
        return
    prolonging = asyncio.create_task(_prolong(client, machines, holder, operator, progress))
    try:
        yield
    finally:
        prolonging.cancel()
        await asyncio.gather(prolonging, return_exceptions=True)
        with contextlib.suppress(PlatformError, OperationError):  # it ends by itself all the same
            await ctl_anywhere(client, machines, "unlock", "--holder", holder)


async def _take(
    client: FlyClient, machines: Sequence[Standing], holder: str, operator: Operator
) -> None:
    said = await ctl_anywhere(
        client, machines, "lock", "--holder", holder, "--who", operator.who, "--what", operator.what
    )
    if not said["taken"]:
        raise _taken(said)


def refuse_other(formation: Formation) -> None:
    """Raise OtherOperatorError where somebody is at work: what is seen then is no state to judge."""
    for one in formation.databases:
        if one.majority and one.operator:
            raise _taken(one.operator)


def _taken(said: Mapping[str, object]) -> OtherOperatorError:
    return OtherOperatorError(
        f"{said.get('who')} is at work on this deployment: {said.get('what')}, "
        f"since {said.get('since')}.",
        suggestion="Wait for its end; the lock of a command that died ends after 15 s.",
    )


async def _prolong(
    client: FlyClient, machines: Sequence[Standing], holder: str, operator: Operator,
    progress: Progress,
) -> None:  # fmt: skip
    while True:
        await asyncio.sleep(PROLONG_EVERY_S)
        try:
            await _take(client, machines, holder, operator)
        except (PlatformError, OperationError) as error:
            progress.seen("lock", f"it could not be prolonged: {error.message}")
