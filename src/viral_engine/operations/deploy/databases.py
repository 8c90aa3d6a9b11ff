"""What a deploy asks of the databases, and how the real ones do it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from viral_engine.clock import NotYet, wait_until
from viral_engine.errors import OperationError, RefusedError
from viral_engine.fly.client import FlyClient
from viral_engine.operations.fail_over import fail_over, plan_failover
from viral_engine.operations.formation import Formation, observe_formation
from viral_engine.operations.operator_lock import Operator, operating
from viral_engine.operations.progress import Progress

WELL_WITHIN = timedelta(seconds=120)
POLL = timedelta(milliseconds=500)


class Databases(Protocol):
    """The databases of a deployment as a whole."""

    def locked(self, operator: Operator) -> AbstractAsyncContextManager[None]:
        """Keep every other operator out, where the databases run already."""

    async def until_well(self) -> None:
        """Wait until any one of them could be taken away; raises WaitTimeoutError."""

    async def hand_over(self, region: str) -> None:
        """Have the primary leave a region."""

    async def hand_back(self, region: str) -> None:
        """Have the primary come back to a region."""


@dataclass(frozen=True, slots=True)
class PatroniDatabases:
    """The real ones, asked and told from inside their machines."""

    client: FlyClient
    progress: Progress

    @asynccontextmanager
    async def locked(self, operator: Operator) -> AsyncIterator[None]:
        """As in Databases: with the lock that failover and the others take."""
        try:
            formation = await observe_formation(self.client)
        except OperationError:  # there is no database machine yet
            yield
            return
        if not formation.answering():
            yield
            return
        async with operating(self.client, formation, operator, self.progress):
            yield

    async def until_well(self, *, within: timedelta = WELL_WITHIN) -> None:
        """As in Databases: a primary acknowledges, the others stream, one of them synchronously."""

        async def well() -> bool | NotYet:
            ill = _ill(await observe_formation(self.client))
            return NotYet(ill) if ill else True

        await wait_until(
            well, timeout=within, interval=POLL,
            waiting_for="every database to stream, and one to confirm each commit",
        )  # fmt: skip

    async def hand_over(self, region: str) -> None:
        """As in Databases: to the synchronous standby, which has everything that was acknowledged."""
        formation = await observe_formation(self.client)
        primary = formation.primary
        if primary is None or not primary.synchronous:
            raise RefusedError(
                f"The primary cannot leave {region}: there is no synchronous standby.",
                suggestion="See: viral status. Typed again, the deploy goes on where it was.",
            )
        if primary.region == region:
            await self._move(formation, primary.synchronous[0])

    async def hand_back(self, region: str) -> None:
        """As in Databases."""
        await self.until_well()
        formation = await observe_formation(self.client)
        if formation.primary is not None and formation.primary.region != region:
            await self._move(formation, region)

    async def _move(self, formation: Formation, to: str) -> None:
        await fail_over(self.client, formation, plan_failover(formation, to), self.progress)


def _ill(formation: Formation) -> str:
    """What speaks against taking one of the databases away, empty for nothing."""
    primary = formation.primary
    if primary is None or not primary.acknowledges:
        return "no primary acknowledges writes"
    for one in formation.databases:
        if one.error:
            return f"{one.region}: {one.error}"
        if one is not primary and not one.streaming:
            return f"{one.region} does not stream"
    if len(formation.databases) > 1 and not primary.synchronous:
        return "there is no synchronous standby"
    silent = [region for region, answers in primary.voices.items() if not answers]
    return f"etcd does not answer in {', '.join(silent)}" if silent else ""
