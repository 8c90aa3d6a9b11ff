"""Stops a part of the database machine that it is run in, or lets it go on.

Run inside the machine: ``python -m viral_engine.operations.drills.hang patroni STOP``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["PARTS"]

PARTS = {"patroni": b"patroni_start", "replay": b"startup recovering"}
"""What can hang, by a text of its command line: Patroni, and the process that replays the log."""


def main(part: str, word: str, environ: Mapping[str, str]) -> int:
    """Send SIGSTOP (``STOP``) or SIGCONT (``CONT``) to this machine's part; return to how many."""
    number = {"STOP": signal.SIGSTOP, "CONT": signal.SIGCONT}[word]
    found = [
        int(process.name)
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and _is_meant(process, PARTS[part], environ)
    ]
    for pid in found:
        os.kill(pid, number)
    return len(found)


def _is_meant(process: Path, text: bytes, environ: Mapping[str, str]) -> bool:
    # In a globe without namespaces the processes of all machines are seen here. PostgreSQL writes
    # its titles over its environment, and works in its data folder.
    machine = f"FLY_MACHINE_ID={environ['FLY_MACHINE_ID']}".encode()
    try:
        return text in (process / "cmdline").read_bytes() and (
            (process / "cwd").readlink().is_relative_to(environ["VIRAL_DATA"])
            or machine in (process / "environ").read_bytes().split(b"\0")
        )
    except OSError:
        return False


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2], os.environ))  # noqa: T201 - whoever runs it reads this
