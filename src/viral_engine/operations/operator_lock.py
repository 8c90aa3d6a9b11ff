"""One operator at a time: a lock in etcd that lives as long as the command that took it.

Without etcd it is the lease of a machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from viral_engine.errors import (
    LeaseHeldError,
    OperationError,
    OtherOperatorError,
    PlatformError,
)
from viral_engine.fly.client import FlyClient
from viral_engine.fly.leases import lease_of, leased
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

    It raises that within the block too, once the lock has become another's. Where etcd has no
    majority the lock is the lease of a database machine; where the platform gives none either, that
    is told to ``progress``, and the block runs.
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
        progress.seen("lock", f"etcd has no majority: the lock is a lease ({error.message})")
        async with _leasing(client, formation, operator, progress):
            yield
        return
    lost: list[OtherOperatorError] = []
    try:
        async with asyncio.timeout(None) as block:

            def lose(error: OtherOperatorError) -> None:
                lost.append(error)
                block.reschedule(asyncio.get_running_loop().time())

            prolonging = asyncio.create_task(
                _prolong(client, machines, holder, operator, progress, lose=lose)
            )
            try:
                yield
            finally:
                prolonging.cancel()
                await asyncio.gather(prolonging, return_exceptions=True)
    except TimeoutError:
        if lost:
            raise lost[0] from None
        raise
    finally:
        with contextlib.suppress(PlatformError, OperationError):  # it ends by itself all the same
            await ctl_anywhere(client, machines, "unlock", "--holder", holder)


@asynccontextmanager
async def _leasing(
    client: FlyClient, formation: Formation, operator: Operator, progress: Progress
) -> AsyncIterator[None]:
    # The same one for all who come, whoever of them answers.
    first = min(formation.databases, key=lambda one: (one.app, one.machine))
    async with contextlib.AsyncExitStack() as stack:
        if first.machine not in client.nonces:  # else we hold it already, for a deploy
            lease = leased(client, first.app, first.machine, f"{operator.what} by {operator.who}")
            try:
                await stack.enter_async_context(lease)
            except LeaseHeldError as error:
                raise await other_operator(client, first.app, first.machine, error) from error
            except PlatformError as error:
                progress.seen("lock", f"no lease can be had either: {error.message}")
        yield


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


async def other_operator(
    client: FlyClient, app: str, machine: str, error: LeaseHeldError
) -> OtherOperatorError:
    """Word a lease that another holds: who, what, and until when."""
    told = await lease_of(client, app, machine) or {}
    who = told.get("description") or told.get("owner")
    said = f"Somebody else is at work on this deployment: {who}." if who else error.message
    return OtherOperatorError(
        said, suggestion="Wait for its end; the lease of a command that died ends within 13 s."
    )


async def _prolong(
    client: FlyClient, machines: Sequence[Standing], holder: str, operator: Operator,
    progress: Progress, *, lose: Callable[[OtherOperatorError], None],
) -> None:  # fmt: skip
    while True:
        await asyncio.sleep(PROLONG_EVERY_S)
        try:
            await _take(client, machines, holder, operator)
        except OtherOperatorError as error:
            lose(error)
            return
        except (PlatformError, OperationError) as error:
            progress.seen("lock", f"it could not be prolonged: {error.message}")
