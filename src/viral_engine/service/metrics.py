from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from viral_engine.data import Databases, read_statements
from viral_engine.data.conflicts import Current, Incoming, LastWriterWins, Store, settle_conflict
from viral_engine.data.hybrid_clock import HybridClock, HybridTime, refuse_ahead
from viral_engine.service.changes import Connection
from viral_engine.service.cursor import Cursor
from viral_engine.service.ids import new_id
from viral_engine.service.pages import Page, read_page

__all__ = ["Metric", "Metrics", "Written"]

# Two points of one time and name: the greater value stays, whichever comes first.
STRATEGY: LastWriterWins[float] = LastWriterWins(tie=lambda value: value)


@dataclass(frozen=True, slots=True)
class Metric:
    """The newest point of one gauge; ``at`` is the hybrid time of whoever measured it."""

    id: UUID
    name: str
    value: float
    at: str
    created_at: datetime
    updated_at: datetime
    version: int

    @property
    def time(self) -> HybridTime:
        """When it was measured."""
        return HybridTime.parse(self.at)


@dataclass(frozen=True, slots=True)
class Written:
    """The point that is stored after a write, and whether it is the one that was written."""

    metric: Metric
    won: bool


class Metrics:
    """Keeps the point with the latest hybrid time of each name, in whatever order they arrive."""

    def __init__(self, databases: Databases, clock: HybridClock) -> None:
        self._databases = databases
        self._clock = clock
        self._sql = read_statements("viral_engine.service", "queries/metrics.sql")

    async def put(self, name: str, value: float, *, at: HybridTime | None = None) -> Written:
        """Store a point unless a later one is there; without ``at`` it is later than what is there.

        Raises ClockAheadError, and stores nothing, when one of the clocks of whoever measured, this
        machine and the primary's database is more than a minute ahead of another.
        """
        stamp = self._clock.now()
        if at is not None:
            self._clock.observe(at)
            stamp = at
        async with self._databases.writing() as connection:
            metric = await self._locked(connection, name)
            if metric is None:
                await self._refuse_ahead(connection, stamp)
                values = {"id": new_id(), "name": name, "value": value, "at": str(stamp)}
                created = await self._one(connection, "create_metric", values)
                if created is not None:
                    return Written(created, won=True)
                # Somebody else was first, and has committed by now.
                metric = await self._locked(connection, name)
            if metric is None:
                msg = "a metric vanished, and nothing removes one"
                raise AssertionError(msg)
            if at is None:
                stamp = self._clock.observe(metric.time)
            await self._refuse_ahead(connection, stamp)
            return await self._settled(connection, metric, value, stamp)

    async def get(self, name: str) -> Metric | None:
        """Return the newest point of that name that is known here, None where there is none."""
        found = await self._databases.select(
            self._sql["get_metric"], {"name": name}, row_factory=class_row(Metric)
        )
        return found[0] if found else None

    async def page(self, *, after: Cursor | None, limit: int) -> Page[Metric]:
        """Return up to ``limit`` metrics (at most 200) whose first point came after the cursor's."""
        first, following = self._sql["list_metrics"], self._sql["list_metrics_after"]
        return await read_page(
            self._databases, first, following, row=Metric, after=after, limit=limit
        )

    async def _settled(
        self, connection: Connection, metric: Metric, value: float, stamp: HybridTime
    ) -> Written:
        current = Current(metric.value, metric.version, metric.time)
        outcome = settle_conflict(STRATEGY, current, Incoming(value, at=stamp))
        if not isinstance(outcome, Store):
            return Written(metric, won=False)
        values = {
            "name": metric.name,
            "value": outcome.row,
            "at": str(stamp),
            "replaces": outcome.replaces,
        }
        changed = await self._one(connection, "update_metric", values)
        if changed is None:
            msg = "a metric changed while it was locked"
            raise AssertionError(msg)
        return Written(changed, won=True)

    async def _refuse_ahead(self, connection: Connection, stamp: HybridTime) -> None:
        # The one clock that all machines share: a stamp of a wrong one, stored, would keep every
        # other out until the wall clock has caught up with it.
        cursor = await connection.execute(self._sql["wall_ms"])
        row = await cursor.fetchone()
        refuse_ahead(stamp, wall_ms=row[0] if row else 0, whose="the primary's clock")

    async def _locked(self, connection: Connection, name: str) -> Metric | None:
        return await self._one(connection, "lock_metric", {"name": name})

    async def _one(
        self, connection: Connection, statement: str, values: dict[str, object]
    ) -> Metric | None:
        cursor = connection.cursor(row_factory=class_row(Metric))
        await cursor.execute(self._sql[statement], values)
        return await cursor.fetchone()
