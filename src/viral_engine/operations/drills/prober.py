"""Tries to write to one database, ten times a second, and tells each answer; run inside its machine.

``python -m viral_engine.operations.drills.prober SECONDS``. A try is a commit of its own with the
question that the runtime asks after each of its commits: whether this node still holds primacy. One
line of JSON an answer: see probes.py, which reads them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import TypeAlias

import psycopg
from psycopg.conninfo import make_conninfo

from viral_engine.nodes.machine import DATABASE_PORT, DatabaseSettings, Machine

EVERY_S = 0.1
CONNECTS_WITHIN_S = 2
APP_ROLE = "viral_app"

# Committed without another region: what is acknowledged most easily is the sharpest test. One that
# replays would refuse, and its log should not be full of that.
WRITE = b"""
begin;
set local synchronous_commit to local;
select pg_logical_emit_message(true, 'viral', 'probe') where not pg_is_in_recovery();
commit;
select
    case
        when not pg_is_in_recovery()
        then ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::integer
    end,
    case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end
    - '0/0'::pg_lsn
"""
HELD = b", coalesce(viral.primacy_remaining(), 0) > 0"
UNGUARDED = b", true"
GUARDED = b"select to_regprocedure('viral.primacy_remaining()') is not null"

Connection: TypeAlias = psycopg.Connection[tuple[object, ...]]


class Prober:
    """One connection to the database of this machine, made again whenever it is lost."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._connection: Connection | None = None
        self._write = b""

    def probe(self) -> dict[str, object]:
        """Try once and return what was answered, with the times on the clock that all share."""
        sent = time.monotonic_ns()
        said = self._said()
        return {"sent": sent, "answered": time.monotonic_ns(), **said}

    def _said(self) -> dict[str, object]:
        try:
            return self._asked(self._connected())
        except psycopg.Error as error:
            self._drop()
            return {"role": "silent", "why": str(error).splitlines()[0] if str(error) else ""}

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = psycopg.connect(self._where, autocommit=True)
            guarded = self._connection.execute(GUARDED).fetchone()
            self._write = WRITE + (HELD if guarded and guarded[0] else UNGUARDED)
        return self._connection

    def _asked(self, connection: Connection) -> dict[str, object]:
        cursor = connection.execute(self._write, prepare=False)
        while cursor.nextset():
            pass
        row = cursor.fetchone()
        assert row is not None, "it selects one row"
        timeline, position, held = row
        lsn = None if position is None else int(str(position))
        if timeline is None:
            return {"role": "replica", "lsn": lsn}
        return {"role": "primary", "timeline": timeline, "lsn": lsn, "held": held}

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def main(seconds: float, environ: Mapping[str, str]) -> None:
    """Probe for so many seconds; a try that takes longer than a turn is not made up for."""
    machine, settings = Machine.from_environ(environ), DatabaseSettings.from_environ(environ)
    prober = Prober(
        make_conninfo(
            host=machine.private_ip, port=DATABASE_PORT, user=APP_ROLE, dbname=settings.database,
            password=settings.app_password, connect_timeout=CONNECTS_WITHIN_S,
        )
    )  # fmt: skip
    ends = time.monotonic() + seconds
    while (now := time.monotonic()) < ends:
        print(json.dumps(prober.probe()), flush=True)  # noqa: T201 - whoever runs it reads this
        time.sleep(max(0.0, now + EVERY_S - time.monotonic()))


if __name__ == "__main__":
    main(float(sys.argv[1]), os.environ)
