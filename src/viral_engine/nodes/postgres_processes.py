from __future__ import annotations

import os
import signal
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from viral_engine.cluster.primacy import Engine

__all__ = ["PostgresProcesses"]

# The head of global/pg_control: system identifier, two version numbers, then the state.
_CONTROL = struct.Struct("=QIIi")
_IN_PRODUCTION = 6
_READY = "ready"
_STATUS_LINE = 7


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    titled: bool
    """Whether it has taken a title of its own, as all but the postmaster do."""


class PostgresProcesses:
    """The processes of the PostgreSQL of one data folder, as the kernel and its files show them.

    It asks nobody: the answer is there within a millisecond, also while PostgreSQL, Patroni or the
    network hang. Linux only.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Processes may have been left by whoever ran before: look before saying that it is down.
        self._may_have_strays = True

    def engine(self) -> Engine:
        """Return what PostgreSQL is doing; it is down only once its last process is gone."""
        head = self._postmaster()
        if head is None:
            # A server process that works on when its postmaster died may still answer a COMMIT.
            self._may_have_strays = self._may_have_strays and bool(_strays(self._all()))
            return Engine.LEFTOVERS if self._may_have_strays else Engine.DOWN
        self._may_have_strays = True
        if not head[1]:
            return Engine.BUSY
        return Engine.PRIMARY if self._is_in_production() else Engine.REPLICA

    def kill(self) -> None:
        """Kill the postmaster and its children, and whatever is left of an earlier one's."""
        head = self._postmaster()
        family = self._all()
        doomed = {one.pid for one in _strays(family)}
        if head is not None:
            doomed |= {head[0]} | {one.pid for one in family if one.parent == head[0]}
        # The postmaster first, or it would start anew what dies.
        for pid in sorted(doomed, key=lambda pid: head is None or pid != head[0]):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _postmaster(self) -> tuple[int, bool] | None:
        """Return the postmaster's id and whether it takes connections; None when it is gone."""
        try:
            lines = (self._folder / "postmaster.pid").read_text(errors="replace").splitlines()
            pid = int(lines[0])
        except (OSError, ValueError, IndexError):
            return None
        # A single server process without a postmaster, as Patroni runs one to repair, is negative.
        if pid <= 0 or not self._is_ours(pid):
            return None
        return pid, len(lines) > _STATUS_LINE and lines[_STATUS_LINE].strip() == _READY

    def _is_in_production(self) -> bool:
        try:
            with (self._folder / "global" / "pg_control").open("rb") as file:
                state = _CONTROL.unpack(file.read(_CONTROL.size))[3]
        except (OSError, struct.error):
            return False
        return bool(state == _IN_PRODUCTION)

    def _is_ours(self, pid: int) -> bool:
        # PostgreSQL's processes stay in their data folder; a process that ended has no place.
        try:
            return Path(f"/proc/{pid}/cwd").samefile(self._folder)
        except OSError:
            return False

    def _all(self) -> list[_Process]:
        place = self._folder.resolve()
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError, IndexError):
                if entry.name.isdecimal() and (entry / "cwd").readlink() == place:
                    title = (entry / "cmdline").read_bytes()
                    stat = (entry / "stat").read_text(errors="replace")
                    parent = int(stat.rpartition(")")[2].split()[1])
                    titled = title.startswith(b"postgres:")
                    found.append(_Process(int(entry.name), parent, titled))
        return found


def _strays(family: list[_Process]) -> list[_Process]:
    heads = {one.pid for one in family if not one.titled}
    return [one for one in family if one.titled and one.parent not in heads]
