"""Meddles with the database of this machine as its superuser, for so long; run inside it.

``python -m viral_engine.operations.drills.meddler DEED SECONDS``. It prints what came of it, as a
number: 0 is nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

import psycopg
from psycopg.conninfo import make_conninfo

from viral_engine.nodes.machine import DATABASE_PORT, DatabaseSettings, Machine
from viral_engine.nodes.patroni import SUPERUSER

__all__ = ["DEEDS", "meddle"]

CANCEL_EVERY_S = 0.15
"""Less than two commits to another region take, so that some of them are met and some are not."""
HANG_UP_EVERY_S = 0.5
LOCK_EVERY_S = 1.0
LOOK_EVERY_S = 0.2

LOCK = b"lock table organizations in exclusive mode"
WAITING = b"""
select count(*) from pg_locks where not granted and relation = 'organizations'::regclass
"""
CANCEL = b"""
select count(pg_cancel_backend(pid)) from pg_stat_activity where wait_event = 'SyncRep'
"""
HANG_UP = b"""
select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'viral_app'
"""
LOCK_FOR_ALL = b"begin; lock table organizations in access exclusive mode; commit"
READ = b"begin; select count(*) from organizations"
CONFLICTS = b"""
select confl_lock from pg_stat_database_conflicts where datname = current_database()
"""
WAITS_AT_MOST = b"set lock_timeout = '2s'"
ADD = b"alter table organizations add column drilled text"
DROP = b"alter table organizations drop column if exists drilled"


def lock(where: str, seconds: float) -> int:
    """Hold a lock that reads pass and writes wait for; return how many wait at the end."""
    with psycopg.connect(where) as database:
        database.execute(LOCK)
        time.sleep(seconds)
        return _number(database, WAITING)


def cancel(where: str, seconds: float) -> int:
    """Cancel commits that wait for another region; return how many."""
    with psycopg.connect(where, autocommit=True) as database:
        return sum(_number(database, CANCEL) for _ in _turns(seconds, CANCEL_EVERY_S))


def hang_up(where: str, seconds: float) -> int:
    """End every connection of the app, again and again; return how many."""
    with psycopg.connect(where, autocommit=True) as database:
        return sum(_number(database, HANG_UP) for _ in _turns(seconds, HANG_UP_EVERY_S))


def lock_for_all(where: str, seconds: float) -> int:
    """Take a lock that nothing passes, and give it back at once; return how often."""
    taken = 0
    with psycopg.connect(where, autocommit=True) as database:
        database.execute(WAITS_AT_MOST)
        for _ in _turns(seconds, LOCK_EVERY_S):
            with suppress(psycopg.errors.LockNotAvailable):
                database.execute(LOCK_FOR_ALL, prepare=False)
                taken += 1
    return taken


def read(where: str, seconds: float) -> int:
    """Read in one long transaction, again where that is ended; return how often it was, for a lock."""
    with psycopg.connect(where, autocommit=True) as database:
        before = _number(database, CONFLICTS)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with suppress(psycopg.Error), psycopg.connect(where, autocommit=True) as reader:
            reader.execute(READ, prepare=False)
            for _ in _turns(ends - time.monotonic(), LOOK_EVERY_S):
                reader.execute(b"select")
    with psycopg.connect(where, autocommit=True) as database:
        return _number(database, CONFLICTS) - before


def alter(where: str, seconds: float) -> int:
    """Add a column to a table in use, and drop it again; return how many of the two were done."""
    done = 0
    with psycopg.connect(where, autocommit=True) as database:
        database.execute(WAITS_AT_MOST)
        database.execute(DROP)
        try:
            database.execute(ADD)
            done += 1
            time.sleep(seconds)
        finally:
            database.execute(DROP)
        return done + 1


DEEDS: Mapping[str, Callable[[str, float], int]] = {
    "lock": lock,
    "cancel-commits": cancel,
    "hang-up": hang_up,
    "lock-for-all": lock_for_all,
    "long-read": read,
    "alter": alter,
}


def meddle(deed: str, seconds: float, environ: Mapping[str, str]) -> int:
    """Do a deed to the database of this machine; raise KeyError for one that is none."""
    machine, settings = Machine.from_environ(environ), DatabaseSettings.from_environ(environ)
    where = make_conninfo(
        host=machine.private_ip, port=DATABASE_PORT, user=SUPERUSER, dbname=settings.database,
        password=settings.superuser_password,
    )  # fmt: skip
    return DEEDS[deed](where, seconds)


def _turns(seconds: float, every: float) -> Iterator[None]:
    """Come again every so many seconds, for so long."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        yield
        time.sleep(every)


def _number(database: psycopg.Connection[tuple[object, ...]], question: bytes) -> int:
    row = database.execute(question).fetchone()
    return int(str(row[0])) if row else 0


if __name__ == "__main__":
    print(meddle(sys.argv[1], float(sys.argv[2]), os.environ))  # noqa: T201 - whoever runs it reads this
