"""Stops a part of a database machine, or lets it go on; run inside that machine.

``python -m viral_engine.operations.drills.hang patroni STOP MACHINE``.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

__all__ = ["PARTS", "send"]

PARTS = {"patroni": b"patroni_start", "replay": b"startup recovering"}
"""What can hang, by a text of its command line: Patroni, and the process that replays the log."""


def send(part: str, word: str, machine: str, *, processes: Path = Path("/proc")) -> int:
    """Send SIGSTOP (``STOP``) or SIGCONT (``CONT``) to a part of a machine; return to how many."""
    number = {"STOP": signal.SIGSTOP, "CONT": signal.SIGCONT}[word]
    found = [
        int(process.name)
        for process in processes.iterdir()
        if process.name.isdigit() and _is_meant(process, PARTS[part], machine)
    ]
    for pid in found:
        os.kill(pid, number)
    return len(found)


def _is_meant(process: Path, text: bytes, machine: str) -> bool:
    # In a globe without namespaces the processes of all machines are seen here, and PostgreSQL's
    # children write their titles over their environment: then the postmaster's counts.
    mark = f"FLY_MACHINE_ID={machine}".encode()
    try:
        if text not in (process / "cmdline").read_bytes():
            return False
        parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
        family = (process, process.with_name(parent))
        return any(mark in (one / "environ").read_bytes().split(b"\0") for one in family)
    except OSError:
        return False


if __name__ == "__main__":
    print(send(*sys.argv[1:]))  # noqa: T201 - whoever runs it reads this
