"""Prints how many milliseconds a connection to another machine's Patroni takes; run inside one.

``python -m viral_engine.operations.drills.reach ADDRESS``: the shortest of a few.
"""

from __future__ import annotations

import socket
import sys
import time

from viral_engine.nodes.machine import PATRONI_PORT

TRIES = 3
WITHIN_S = 4.0


def connect_ms(address: str) -> float:
    """Return how long it takes to connect once."""
    began = time.monotonic()
    with socket.create_connection((address, PATRONI_PORT), timeout=WITHIN_S):
        return 1000 * (time.monotonic() - began)


if __name__ == "__main__":
    print(min(connect_ms(sys.argv[1]) for _ in range(TRIES)))  # noqa: T201 - whoever runs it reads this
