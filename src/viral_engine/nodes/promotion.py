"""``python -I -S promotion.py FOLDER``: what Patroni runs before it promotes a replica.

It ends with 0 once this machine's node process, which answers on a socket in FOLDER, holds primacy,
and otherwise with 1 after 12 s at the most: under Patroni's ttl, and Patroni renews its own lock
meanwhile. It loads next to nothing, as a failover waits for it.
"""

from __future__ import annotations

import os
import socket
import sys

SOCKET = "primacy.sock"
TAKE = b"take\n"
TAKEN = b"taken\n"
LIMIT_S = 12.0


def main(folder: str) -> int:
    """Ask for primacy and return the exit code."""
    try:
        # By a relative name: that of a socket may have 107 bytes, and a data folder's be longer.
        os.chdir(folder)
        with socket.socket(socket.AF_UNIX) as desk:
            desk.settimeout(LIMIT_S)
            desk.connect(SOCKET)
            desk.sendall(TAKE)
            taken = desk.recv(len(TAKEN)) == TAKEN
    except OSError as error:
        sys.stdout.write(f"no promotion without primacy: {error or 'no answer'}\n")
        return 1
    return 0 if taken else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
