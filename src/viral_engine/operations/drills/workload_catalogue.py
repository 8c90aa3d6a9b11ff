"""The consistency workloads that run beside every drill, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Any

from viral_engine.operations.drills.durable import check_set
from viral_engine.operations.drills.history import Kind, Operation, Outcome, Value
from viral_engine.operations.drills.register import check_register
from viral_engine.operations.drills.revisions import check_revisions
from viral_engine.operations.drills.sessions import check_nothing_lost, check_sessions
from viral_engine.operations.drills.verdict import all_of
from viral_engine.operations.drills.workload import Judged, MakeWorkload, Played, Setting
from viral_engine.operations.drills.workloads import INITIAL, StrongLoad, StrongPlan
from viral_engine.operations.drills.workloads_lists import Statements
from viral_engine.operations.drills.workloads_money import Bank, Counters
from viral_engine.operations.drills.workloads_once import Owners, Storm
from viral_engine.operations.drills.workloads_sessions import (
    SessionLoad,
    SessionPlan,
    versions_of,
)

__all__ = ["WORKLOADS"]

SET = "organizations"
STRONG = StrongPlan(
    keys=3, readers=2, writers=1, read_every=timedelta(milliseconds=250),
    write_every=timedelta(milliseconds=400), add_every=timedelta(milliseconds=500),
)  # fmt: skip
SESSIONS = SessionPlan(keeping=4, dropping=0, every=timedelta(milliseconds=300))


class Strong:
    """Registers and a set, both strong, from every region."""

    name = "strong"

    def __init__(self, setting: Setting) -> None:
        self._load = StrongLoad(
            setting.edges, setting.book, STRONG, seed=setting.seed, first=setting.primary
        )
        self._final: dict[str, list[Value]] = {}

    async def prepare(self) -> None:
        """Make the users whose names are the registers."""
        await self._load.prepare()

    def loops(self, stop: asyncio.Event) -> Sequence[Coroutine[Any, Any, None]]:
        """Return the life of every reader, writer and adder."""
        return self._load.loops(stop)

    async def finish(self) -> None:
        """Read every register once more, and the set, in every region."""
        self._final = await self._load.final()

    def judge(self, history: Sequence[Operation], played: Played) -> Judged:
        """Rule whether registers were linearizable, and the set is there, once."""
        registers = [one for one in history if one.key != SET]
        elements = [one for one in history if one.key == SET]
        verdict = all_of(
            (
                check_register(registers, initial=INITIAL),
                check_revisions(registers),
                check_set(elements, self._final),
            )
        )
        return Judged(verdict, len(history), _stakes(history, played))


class Sessions:
    """Sessions that move between regions at random, each with its token."""

    name = "sessions"

    def __init__(self, setting: Setting) -> None:
        self._load = SessionLoad(
            setting.edges, setting.book, SESSIONS, seed=setting.seed, first=setting.primary
        )
        self._final: dict[str, dict[str, Value]] = {}

    async def prepare(self) -> None:
        """Make every session's row."""
        await self._load.prepare()

    def loops(self, stop: asyncio.Event) -> Sequence[Coroutine[Any, Any, None]]:
        """Return every session's life."""
        return self._load.loops(stop)

    async def finish(self) -> None:
        """Read every row in every region."""
        self._final = await self._load.final()

    def judge(self, history: Sequence[Operation], played: Played) -> Judged:
        """Rule whether every session saw its writes, and time never went back."""
        rows = self._final[min(self._final)]
        versions = versions_of(history, rows)
        verdicts = [check_sessions(history, versions)]
        if not played.moved:
            verdicts.append(check_nothing_lost(history, versions))
        return Judged(all_of(verdicts), len(history), _stakes(history, played))


def _stakes(history: Sequence[Operation], played: Played) -> dict[str, int]:
    good = [one for one in history if one.outcome is Outcome.OK]
    writes = [one for one in good if one.kind is not Kind.READ]
    return {
        "acknowledged writes before the fault": sum(
            one.called_at < played.faulted_at for one in writes
        ),
        "acknowledged writes after it began": sum(
            one.called_at >= played.faulted_at for one in writes
        ),
        "reads answered after it began": sum(
            one.called_at >= played.faulted_at for one in good if one.kind is Kind.READ
        ),
    }


WORKLOADS: Mapping[str, MakeWorkload] = {
    one.name: one for one in (Strong, Sessions, Bank, Counters, Statements, Storm, Owners)
}
