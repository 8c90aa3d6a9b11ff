"""Which processes of a machine are meant when a part of it is to hang or to be killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from viral_engine.operations.drills.parts import Process, send

MINE, OTHER = b"A=1\0FLY_MACHINE_ID=mine\0", b"FLY_MACHINE_ID=other\0"
PATRONI = b"python\0-m\0viral_engine.nodes.patroni_start\0/data/run/patroni.yml\0"
REPLAY = b"postgres: viral: startup recovering 000000010000000000000003"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: found.append((pid, number)))
    return found


def process(folder: Path, pid: int, line: bytes, environ: bytes, *, parent: int = 1) -> None:
    (folder / str(pid)).mkdir()
    (folder / str(pid) / "cmdline").write_bytes(line)
    (folder / str(pid) / "environ").write_bytes(environ)
    rest = " ".join(["0"] * 17)
    (folder / str(pid) / "stat").write_text(f"{pid} (a) b) S {parent} {rest} 4711 0")


def test_only_this_machines_part_is_stopped(tmp_path: Path, sent: list[tuple[int, int]]) -> None:
    (tmp_path / "uptime").touch()
    process(tmp_path, 1, b"viral\0node\0database\0", MINE)
    process(tmp_path, 8, PATRONI, MINE)
    process(tmp_path, 9, PATRONI, OTHER, parent=2)
    process(tmp_path, 2, b"viral\0node\0database\0", OTHER)
    assert send("patroni", "STOP", "mine", processes=tmp_path) == [Process(8, "S", 4711)]
    assert send("replay", "STOP", "mine", processes=tmp_path) == []
    assert sent == [(8, signal.SIGSTOP)]


def test_a_child_of_postgresql_is_known_by_its_postmaster(
    tmp_path: Path, sent: list[tuple[int, int]]
) -> None:
    process(tmp_path, 20, b"postgres\0-D\0/data/pg\0", MINE, parent=8)
    process(tmp_path, 21, REPLAY, b"\0\0\0", parent=20)
    process(tmp_path, 30, b"postgres\0-D\0/data/pg\0", OTHER)
    process(tmp_path, 31, REPLAY, b"\0\0\0", parent=30)
    assert [one.pid for one in send("replay", "CONT", "mine", processes=tmp_path)] == [21]
    assert sent == [(21, signal.SIGCONT)]


def test_the_postmaster_is_meant_by_postgres_and_nobody_is_hurt_by_a_look(
    tmp_path: Path, sent: list[tuple[int, int]]
) -> None:
    process(tmp_path, 20, b"/opt/bin/postgres\0-D\0/data/pg\0", MINE, parent=8)
    process(tmp_path, 21, b"postgres: viral: checkpointer", b"\0", parent=20)
    process(tmp_path, 22, b"/opt/etcd\0--name=iad\0", MINE)
    assert [one.pid for one in send("postgres", "LOOK", "mine", processes=tmp_path)] == [20]
    assert sent == []
    send("postgres", "KILL", "mine", processes=tmp_path)
    send("etcd", "KILL", "mine", processes=tmp_path)
    assert sent == [(20, signal.SIGKILL), (22, signal.SIGKILL)]
