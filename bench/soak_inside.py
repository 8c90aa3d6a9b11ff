"""Holds back or kills one database, from inside its machine; prints as JSON what was seen of that.

Run there by bench/soak_faults.py through the platform's ``exec``, as an operator could.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
from psycopg.conninfo import make_conninfo

from viral_engine.nodes.machine import DATABASE_PORT, DatabaseSettings, Machine
from viral_engine.nodes.patroni import API_USER, SUPERUSER

DELAY = "200ms"
SHOWN_WITHIN_S = 20.0
LOOK_EVERY_S = 0.05

Connection = psycopg.Connection[tuple[object, ...]]

REPLAYED = b"select pg_last_wal_replay_lsn()"
BEHIND = b"select pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()"
FOLDER = b"select current_setting('data_directory')"
IN_FORCE = b"select current_setting('recovery_min_apply_delay')"


def bursts(database: Connection, pauses: Sequence[tuple[float, float]]) -> Mapping[str, object]:
    """Stop the process that replays for the first of each pair of seconds; let it run for the second.

    It goes on receiving meanwhile. PostgreSQL's own pause is no use here, since Patroni ends it
    within a second. ``held`` counts the stops in which nothing was replayed of what had come.
    """
    replays = _replaying(_postmaster(database))
    held = 0
    try:
        for without, with_ in pauses:
            replays.send_signal(signal.SIGSTOP)
            before = _one(database, REPLAYED)
            time.sleep(without)
            held += bool(before == _one(database, REPLAYED) and _one(database, BEHIND))
            replays.send_signal(signal.SIGCONT)
            time.sleep(with_)
    finally:
        replays.send_signal(signal.SIGCONT)
    return {"stops": len(pauses), "held": held, "left": replays.status()}


def _replaying(postmaster: int) -> psutil.Process:
    for child in psutil.Process(postmaster).children():
        with suppress(psutil.NoSuchProcess):
            # It calls itself "postgres: NAME OF THE CLUSTER: startup ...".
            if "startup" in " ".join(child.cmdline()):
                return child
    raise LookupError("this database replays nothing: it is no standby")


def delay(
    database: Connection, seconds: float, patroni: Callable[[str | None], None]
) -> Mapping[str, object]:
    """Have every commit replayed 0.2 s after it was made; ``in_force`` and ``lag_s`` are as seen."""
    patroni(DELAY)
    try:
        _until(lambda: _one(database, IN_FORCE) == DELAY)
        time.sleep(seconds)
        seen = _one(database, IN_FORCE)
        lag = _one(database, b"select extract(epoch from now() - pg_last_xact_replay_timestamp())")
    finally:
        patroni(None)
    _until(lambda: _one(database, IN_FORCE) == "0")
    return {"in_force": seen, "lag_s": round(float(str(lag)), 3), "left": _one(database, IN_FORCE)}


def kill(database: Connection) -> Mapping[str, object]:
    """Kill the postmaster as ``kill -9`` does; return its process id."""
    pid = _postmaster(database)
    os.kill(pid, signal.SIGKILL)
    return {"pid": pid}


def _postmaster(database: Connection) -> int:
    folder = Path(str(_one(database, FOLDER)))
    return int((folder / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])


def _one(database: Connection, question: bytes) -> object:
    row = database.execute(question).fetchone()
    return row[0] if row else None


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SHOWN_WITHIN_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("the database did not do what it was told")
        time.sleep(LOOK_EVERY_S)


def _tell_patroni(url: str, password: str, delayed: str | None) -> None:
    """Have Patroni delay every replica, or none: it undoes what is changed behind its back."""
    where = urlsplit(url)
    asked = {"postgresql": {"recovery_conf": {"recovery_min_apply_delay": delayed}}}
    signed = base64.b64encode(f"{API_USER}:{password}".encode()).decode()
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
    try:
        connection.request("PATCH", "/config", json.dumps(asked),
                           {"authorization": f"Basic {signed}"})  # fmt: skip
        answer = connection.getresponse()
        if answer.status != http.HTTPStatus.OK:
            raise ValueError(f"Patroni refused: {answer.status} {answer.read()!r}")
    finally:
        connection.close()


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """Do one act, with its measure as JSON."""
    machine, settings = Machine.from_environ(environ), DatabaseSettings.from_environ(environ)
    password = settings.superuser_password
    told = make_conninfo(
        host=machine.private_ip, port=DATABASE_PORT, user=SUPERUSER, password=password,
        dbname="postgres",
    )  # fmt: skip
    act, measure = arguments[0], json.loads(arguments[1])
    with psycopg.connect(told, autocommit=True) as database:
        if act == "bursts":
            found = bursts(database, measure)
        elif act == "delay":
            found = delay(database, measure,
                          lambda one: _tell_patroni(machine.patroni_url, password, one))  # fmt: skip
        else:
            found = kill(database)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:], os.environ)
