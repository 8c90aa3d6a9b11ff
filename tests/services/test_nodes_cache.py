"""A region's cache keeps a password, forgets the oldest first and writes nothing to disk."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

import pytest
from tests.services.nodes_world import PASSWORDS, World, processes_in, world

from viral_engine.clock import wait_until
from viral_engine.nodes.machine import CACHE_PORT


def say(here: World, *words: str) -> str:
    """Send commands in RESP's inline-free form over one connection; return the last answer."""
    with socket.create_connection((here.addresses["lhr"], CACHE_PORT), timeout=2) as line:
        answer = b""
        for command in words:
            parts = command.split("|")
            sent = "".join(f"${len(part.encode())}\r\n{part}\r\n" for part in parts)
            line.sendall(f"*{len(parts)}\r\n{sent}".encode())
            answer = line.recv(65536)
        return answer.decode()


@pytest.fixture(scope="module")
def cache() -> Iterator[World]:
    with world("lhr", members=()) as here:
        here.start("lhr", "cache", VIRAL_CACHE_MAXMEMORY="32mb")
        yield here


async def test_the_cache_answers_only_to_its_password(cache: World) -> None:
    def up() -> bool:
        with suppress(OSError):
            return "NOAUTH" in say(cache, "PING")
        return False

    await wait_until(up, timeout=timedelta(seconds=10), waiting_for="valkey to answer")
    assert "WRONGPASS" in say(cache, "AUTH|no")
    assert "PONG" in say(cache, f"AUTH|{PASSWORDS['VIRAL_CACHE_PASSWORD']}", "PING")


def test_the_cache_forgets_at_its_limit_and_never_writes_to_disk(cache: World) -> None:
    sign_in = f"AUTH|{PASSWORDS['VIRAL_CACHE_PASSWORD']}"
    for name, wanted in (
        ("maxmemory", "33554432"),
        ("maxmemory-policy", "allkeys-lru"),
        ("save", ""),
        ("appendonly", "no"),
    ):
        assert say(cache, sign_in, f"CONFIG|GET|{name}").split("\r\n")[4] == wanted


def test_a_stopped_cache_leaves_nothing_running(cache: World) -> None:
    assert cache.stop("lhr") == {"lhr": 0}
    assert processes_in(cache.folder) == []
