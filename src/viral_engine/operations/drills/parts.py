"""Finds a part of a machine by its command line, and sends it a signal; run inside that machine.

``python -m viral_engine.operations.drills.parts patroni STOP MACHINE``. It prints the processes that
it found, as they were before, as JSON; with ``LOOK`` nothing is sent.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["PARTS", "Process", "send"]

PARTS = {
    "postgres": b"bin/postgres\0-D",
    "patroni": b"patroni_start",
    "replay": b"startup recovering",
    "etcd": b"/etcd\0--name",
    "valkey": b"valkey-server ",
}
"""What can be meant, by a text of its command line; ``postgres`` is the postmaster, and ``replay``
the process that replays the log."""

SIGNALS = {"STOP": signal.SIGSTOP, "CONT": signal.SIGCONT, "KILL": signal.SIGKILL, "LOOK": None}


@dataclass(frozen=True, slots=True)
class Process:
    """A process: its id, its state (``T`` is stopped), and when it began, in ticks since the boot."""

    pid: int
    state: str
    began: int


def send(part: str, word: str, machine: str, *, processes: Path = Path("/proc")) -> list[Process]:
    """Send a signal to a part of a machine and return what was found, as it was before."""
    number = SIGNALS[word]
    folders = [
        process
        for process in processes.iterdir()
        if process.name.isdigit() and _is_meant(process, PARTS[part], machine)
    ]
    found = [process for folder in folders if (process := _process(folder))]
    for process in found:
        if number is not None:
            os.kill(process.pid, number)
    return found


def _is_meant(process: Path, text: bytes, machine: str) -> bool:
    # In a globe without namespaces the processes of all machines are seen here, and PostgreSQL's
    # children write their titles over their environment: then the postmaster's counts.
    mark = f"FLY_MACHINE_ID={machine}".encode()
    try:
        if text not in (process / "cmdline").read_bytes():
            return False
        parent = _fields(process)[1]
        family = (process, process.with_name(parent))
        return any(mark in (one / "environ").read_bytes().split(b"\0") for one in family)
    except OSError:
        return False


def _process(folder: Path) -> Process | None:
    try:
        fields = _fields(folder)
    except OSError:
        return None
    return Process(int(folder.name), fields[0], int(fields[19]))


def _fields(process: Path) -> list[str]:
    """Return what ``stat`` tells after the name: the state, the parent, and the rest."""
    return (process / "stat").read_text().rpartition(")")[2].split()


if __name__ == "__main__":
    print(json.dumps([asdict(one) for one in send(*sys.argv[1:])]))  # noqa: T201 - whoever runs it reads this
