"""Every line that a machine or an edge writes: kept in one file each, and told to listeners."""

from __future__ import annotations

import asyncio
import heapq
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from viral_engine.globe.machines.record import timestamp

FILE_LIMIT = 16 * 1024 * 1024
"""Bytes of one file before it is set aside; one older file is kept."""

BACKLOG = 10_000
"""Lines that a slow listener may be behind before it is cut off."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line, with where it comes from."""

    at: str
    region: str
    machine: str
    role: str
    line: str


@dataclass(slots=True)
class LogBook:
    """Writes lines to ``folder`` and hands them to whoever listens at the moment."""

    folder: Path
    _files: dict[str, IO[str]] = field(default_factory=dict)
    _listeners: set[asyncio.Queue[LogLine]] = field(default_factory=set)

    def write(self, *, region: str, machine: str, role: str, line: str) -> None:
        """Keep a line and tell it."""
        entry = LogLine(timestamp(), region, machine, role, line)
        file = self._file(machine)
        file.write(json.dumps(asdict(entry)) + "\n")
        file.flush()
        for queue in tuple(self._listeners):
            if queue.full():
                self._listeners.discard(queue)
            else:
                queue.put_nowait(entry)

    def last_lines(self, machine: str, count: int) -> list[str]:
        """The newest lines of one machine, oldest first."""
        return [entry.line for entry in self._history(machine)][-count:]

    def history(self) -> Iterator[LogLine]:
        """All lines that are kept, oldest first."""
        machines = sorted({path.name.split(".")[0] for path in self.folder.glob("*.log*")})
        return heapq.merge(*map(self._history, machines), key=lambda entry: entry.at)

    @contextmanager
    def listening(self) -> Iterator[AsyncIterator[LogLine]]:
        """Hear every line that is written from now on; ends for a listener that is cut off."""
        queue: asyncio.Queue[LogLine] = asyncio.Queue(BACKLOG)
        self._listeners.add(queue)

        async def lines() -> AsyncIterator[LogLine]:
            while queue in self._listeners or not queue.empty():
                yield await queue.get()

        try:
            yield lines()
        finally:
            self._listeners.discard(queue)

    def let_go(self, machine: str) -> None:
        """Close the file of a machine that is no more; what it said can still be read."""
        file = self._files.pop(machine, None)
        if file is not None:
            file.close()

    def close(self) -> None:
        """Close every file."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _file(self, machine: str) -> IO[str]:
        file = self._files.get(machine)
        if file is None or file.tell() > FILE_LIMIT:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{machine}.log"
            if file is not None:
                file.close()
                path.replace(path.with_suffix(".log.1"))
            whole = _ends_with_a_line(path)
            file = self._files[machine] = path.open("a", encoding="utf-8")
            if not whole:  # whoever wrote it died within a line
                file.write("\n")
        return file

    def _history(self, machine: str) -> Iterator[LogLine]:
        for suffix in (".log.1", ".log"):
            path = self.folder / f"{machine}{suffix}"
            if path.exists():
                with path.open(encoding="utf-8") as file:
                    yield from filter(None, map(_read_line, file))


def _ends_with_a_line(path: Path) -> bool:
    if not path.exists() or path.stat().st_size == 0:
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _read_line(raw: str) -> LogLine | None:
    """A line of a file; None for what a death within a line or another version left."""
    try:
        return LogLine(**json.loads(raw)) if raw.endswith("\n") else None
    except (ValueError, TypeError):
        return None
