"""Holds a lock that every write to a strong table waits for; run inside the primary's machine.

``python -m viral_engine.operations.drills.locker SECONDS``. It prints how many waited at the end.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping

import psycopg
from psycopg.conninfo import make_conninfo

from viral_engine.nodes.machine import DATABASE_PORT, DatabaseSettings, Machine
from viral_engine.nodes.patroni import SUPERUSER

# Reads go on; writes wait.
LOCK = b"lock table organizations in exclusive mode"
WAITING = (
    b"select count(*) from pg_locks where not granted and relation = 'organizations'::regclass"
)


def hold(seconds: float, environ: Mapping[str, str]) -> int:
    """Hold it so long and return how many waited for it then."""
    machine, settings = Machine.from_environ(environ), DatabaseSettings.from_environ(environ)
    where = make_conninfo(
        host=machine.private_ip, port=DATABASE_PORT, user=SUPERUSER, dbname=settings.database,
        password=settings.superuser_password,
    )  # fmt: skip
    with psycopg.connect(where) as database:
        database.execute(LOCK)
        time.sleep(seconds)
        row = database.execute(WAITING).fetchone()
        return int(row[0]) if row else 0


if __name__ == "__main__":
    print(hold(float(sys.argv[1]), os.environ))  # noqa: T201 - whoever runs it reads this
