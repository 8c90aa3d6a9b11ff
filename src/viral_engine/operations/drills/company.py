"""What works beside a story and is judged in the end: the load's ledger, and the workloads."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from viral_engine.errors import ViralError
from viral_engine.operations.drills.clients import Book
from viral_engine.operations.drills.history import Recorder, read_history
from viral_engine.operations.drills.ledger import Ledger, judged
from viral_engine.operations.drills.samples import Sample
from viral_engine.operations.drills.verdict import Ruling, Verdict
from viral_engine.operations.drills.workload import Judged, MakeWorkload, Played, Setting, Workload

__all__ = ["Company", "in_company"]

UNREAD = Verdict(
    Ruling.UNKNOWN, why="it did not become well, so that nothing could be read at last"
)


@dataclass(frozen=True, slots=True)
class Company:
    """The ledger, and the workloads by name, each with a history of its own in ``folder``."""

    folder: Path
    ledger: Ledger
    workloads: Mapping[str, Workload]

    async def prepare(self, primary: str) -> None:
        """Make what is read and written."""
        await self.ledger.prepare(primary)
        for workload in self.workloads.values():
            await workload.prepare()

    def loops(self, stop: asyncio.Event) -> Sequence[Coroutine[Any, Any, None]]:
        """Return the life of every client of every workload."""
        return [loop for workload in self.workloads.values() for loop in workload.loops(stop)]

    async def judge(
        self, samples: Sequence[Sample], played: Played
    ) -> tuple[Verdict, Mapping[str, Judged]]:
        """Read what is there at last, and rule on the ledger and on each workload.

        What cannot be read leaves that one unknown, and no other.
        """
        try:
            ledger = judged(samples, await self.ledger.final())
        except ViralError as error:
            ledger = _unread(error)
        found: dict[str, Judged] = {}
        for name, workload in self.workloads.items():
            history = read_history(_history(self.folder, name))
            try:
                await workload.finish()
                found[name] = with_stakes(workload.judge(history, played))
            except ViralError as error:
                found[name] = Judged(_unread(error), len(history), {})
        return ledger, found

    def unread(self) -> tuple[Verdict, Mapping[str, Judged]]:
        """Return what is known where nothing can be read at last."""
        return UNREAD, {name: Judged(UNREAD, 0, {}) for name in self.workloads}


def _unread(error: ViralError) -> Verdict:
    return Verdict(Ruling.UNKNOWN, why=f"it could not be read at last: {error.message}")


@contextmanager
def in_company(
    edges: Mapping[str, str],
    makers: Mapping[str, MakeWorkload],
    *,
    folder: Path,
    seed: int,
    primary: str,
    run: str,
) -> Iterator[Company]:
    """Make it, with histories that are closed when it is left."""
    with ExitStack() as stack:

        def book(name: str) -> Book:
            file = _history(folder, name).open("w", encoding="utf-8")
            return Book(Recorder(stack.enter_context(file)))

        workloads = {
            name: make(Setting(edges, book(name), seed * len(makers) + number, primary))
            for number, (name, make) in enumerate(makers.items())
        }
        yield Company(folder, Ledger(edges, book("ledger"), run), workloads)


def with_stakes(found: Judged) -> Judged:
    """Return a ruling, unknown where nothing could have gone wrong: then nothing was kept."""
    missing = sorted(name for name, count in found.at_stake.items() if count <= 0)
    if found.verdict.ruling is Ruling.KEPT and (missing or not found.at_stake):
        why = f"nothing was at stake: {', '.join(f'no {name}' for name in missing) or 'no count'}"
        return replace(found, verdict=Verdict(Ruling.UNKNOWN, why=why))
    return found


def _history(folder: Path, name: str) -> Path:
    return folder / f"{name}.jsonl"
