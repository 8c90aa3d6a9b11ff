from __future__ import annotations

import asyncio
from contextlib import suppress
from importlib.resources import files
from types import TracebackType
from typing import Self

import psycopg
from psycopg.rows import dict_row

from viral_engine.clock import Clock
from viral_engine.cluster.addresses import LINK_OPTIONS
from viral_engine.cluster.history import parse_history
from viral_engine.cluster.links import answered_within
from viral_engine.cluster.view import Answer, Observation
from viral_engine.lsn import Lsn

__all__ = ["NodeProbe"]

Connection = psycopg.AsyncConnection[dict[str, object]]

PROBE_LIMIT_S = 2.0

# A database that we do not run has neither function.
IS_GUARDED = b"select to_regprocedure('viral.primacy_remaining()') is not null as guarded"
GUARDED = b"""
select
    node.*,
    viral.primacy_remaining() as primacy_seconds,
    case when not node.in_recovery then viral.timeline_history() end as history
from (%b) as node
"""


class NodeProbe:
    """Keeps one connection of its own to a region's node and asks what it is.

    Its connection is never one that requests use: a pool that is busy must not look like a node
    that is gone.
    """

    def __init__(self, region: str, url: str, *, machine: str) -> None:
        self.region = region
        self._url = url
        self._name = f"viral-watch {machine}"
        self._position = files(__package__).joinpath("position.sql").read_bytes()
        self._guarded: bool | None = None  # not known yet
        self._connection: Connection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._drop()

    async def ask(self, clock: Clock) -> Observation:
        """Ask once: an answer takes at most 2 s, and 2 s more where it has to connect first.

        Never raises for a node that is absent, refuses or is silent: that is its observation.
        The time of an observation is that of the question, so that it is never younger than true.
        """
        asked_at = clock.monotonic()
        try:
            connection = self._connection
            if connection is None:
                connection = await self._connected()
                asked_at = clock.monotonic()
            with answered_within(connection, PROBE_LIMIT_S):
                answer = await self._ask(connection)
        except TimeoutError:
            await self._drop()
            return Observation(self.region, asked_at, None, f"no answer in {PROBE_LIMIT_S:g} s")
        except (psycopg.Error, OSError, ValueError) as error:
            await self._drop()
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            return Observation(self.region, asked_at, None, reason)
        return Observation(self.region, asked_at, answer)

    async def _connected(self) -> Connection:
        self._guarded = None
        async with asyncio.timeout(PROBE_LIMIT_S):
            self._connection = await psycopg.AsyncConnection.connect(
                self._url,
                autocommit=True,
                row_factory=dict_row,
                application_name=self._name,
                **LINK_OPTIONS,
            )
        return self._connection

    async def _ask(self, connection: Connection) -> Answer:
        if self._guarded is None:
            cursor = await connection.execute(IS_GUARDED)
            self._guarded = (await cursor.fetchone() or {}).get("guarded") is True
        question = GUARDED % self._position if self._guarded else self._position
        cursor = await connection.execute(question)
        row = await cursor.fetchone()
        if row is None or row["lsn"] is None:
            message = "the node has no position yet"
            raise psycopg.OperationalError(message)
        lag, primacy = row["lag_seconds"], row.get("primacy_seconds")
        return Answer(
            in_recovery=bool(row["in_recovery"]),
            timeline=int(str(row["timeline"])),
            lsn=Lsn.parse(str(row["lsn"])),
            lag_seconds=None if lag is None else float(str(lag)),
            cluster=int(str(row["cluster"])),
            guarded=self._guarded,
            primacy_seconds=None if primacy is None else float(str(primacy)),
            ends=parse_history(str(row.get("history") or "")),
        )

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error, OSError):
                await connection.close()
