"""A client that holds the token of a write that a failover took is told so, at once and once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from time import monotonic

import httpx
from tests.services.postgres_pair import PostgresPair, Server
from tests.services.strong_world import PrimacyFile, install
from tests.services.task_service import both_regions, environ_of, user_of
from tests.services.test_session_failover import SIGNER, _cut_off, _read, _second_pair
from tests.services.test_sessions import Client

from viral_engine.clock import wait_until
from viral_engine.data.token import Span
from viral_engine.lsn import Lsn

SOON = timedelta(seconds=10)


@asynccontextmanager
async def _failed_over(
    pair: PostgresPair, database: str
) -> AsyncIterator[tuple[PostgresPair, dict[str, str], Lsn]]:
    """A primary that was promoted without the last writes, its replica, tokens, and the switch."""
    tokens: dict[str, str] = {}
    async with _second_pair(pair) as second:
        second.primary.copy_and_follow(pair.primary)
        async with both_regions(pair, database) as (iad, lhr):
            client = Client()
            await client.write(lhr, iad, title="kept")
            tokens["kept"] = client.token
            copied = PostgresPair(pair.primary, second.primary)
            await copied.wait_until_replayed()
            await _cut_off(second.primary)
            await client.write(lhr, iad, title="lost")
            tokens["write-lost"] = client.token
            reader = Client()
            await reader.ask(iad, "GET", "/api/tasks")
            tokens["read-lost"] = reader.token
            mixed = Client(tokens["kept"])
            await mixed.ask(iad, "GET", "/api/tasks")
            tokens["read-lost after a write that was kept"] = mixed.token
        await second.primary.ask("select pg_promote()")
        await install(second, database, "cluster/functions.sql")
        switch = await _switch_point(second.primary)
        second.replica.copy_and_follow(second.primary)
        yield second, tokens, switch


async def _switch_point(server: Server) -> Lsn:
    async def said() -> str:
        history = await server.ask("select pg_read_file('pg_wal/00000002.history', true)")
        return str(history or "")

    text = await wait_until(said, timeout=SOON, waiting_for="the history of the new timeline")
    return Lsn.parse(text.split()[1])


async def _knows(user: httpx.AsyncClient, token: str) -> None:
    """Return once a machine knows how the timelines follow each other."""

    async def told() -> bool:
        answer = await user.get("/api/tasks", headers={"viral-session": token})
        return "viral-session-lost" in answer.headers

    await wait_until(told, timeout=SOON, waiting_for="the history to be known")


async def test_each_client_is_told_at_once_and_once_what_the_failover_took_from_it(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with _failed_over(postgres_pair, migrated) as (second, tokens, switch):
        written = _read(tokens["write-lost"])
        assert written.wrote
        assert written.wrote.start >= switch
        across = replace(written, wrote=Span(Lsn(switch.position - 1), written.wrote.end))
        tokens["write-unknown"] = SIGNER.sign(across)
        async with both_regions(second, migrated) as (iad, lhr):
            await _knows(lhr, tokens["read-lost"])
            await _knows(iad, tokens["read-lost"])
            for near in (lhr, iad):
                for name, token in tokens.items():
                    client = Client(token)
                    began = monotonic()
                    answer = await client.ask(near, "GET", "/api/tasks")
                    assert monotonic() - began < 5, name
                    assert answer.status_code == 200, name
                    expected = None if name == "kept" else name.partition(" ")[0]
                    assert answer.headers.get("viral-session-lost") == expected, name
                    titles = [task["title"] for task in answer.json()["items"]]
                    assert titles == ["kept"], name
                    fresh = _read(client.token)
                    assert fresh.timeline == 2, name
                    assert fresh.position >= min(_read(token).position, switch), name
                    again = await client.ask(near, "GET", "/api/tasks")
                    assert "viral-session-lost" not in again.headers, name
                    assert again.headers["viral-route"].startswith(("local", "wait")), name


async def test_a_write_with_such_a_token_is_told_as_well_and_done(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with _failed_over(postgres_pair, migrated) as (second, tokens, _):
        primacy = PrimacyFile(second.primary)
        async with primacy.held(), user_of(environ_of(second, migrated, "iad")) as iad:
            await _knows(iad, tokens["read-lost"])
            client = Client(tokens["write-lost"])
            answer = await client.ask(iad, "POST", "/api/tasks", {"title": "again"})
            assert answer.status_code == 201
            assert answer.headers["viral-session-lost"] == "write-lost"
            fresh = _read(client.token)
            assert (fresh.timeline, fresh.wrote is not None) == (2, True)
            # Whatever stands first, the worst is told.
            for other in (client.token, tokens["read-lost"], tokens["kept"]):
                both = ",".join([other, tokens["write-lost"]])
                told = await iad.get("/api/tasks", headers={"viral-session": both})
                assert told.headers["viral-session-lost"] == "write-lost"
            assert len(told.json()["items"]) == 2
