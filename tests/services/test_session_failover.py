"""After a failover that lost writes, a token of the lost branch is answered at once, never a lie."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic

from tests.services.postgres_pair import UNPRIVILEGED, PostgresPair, Server
from tests.services.task_service import both_regions
from tests.services.test_sessions import Client

from viral_engine.clock import wait_until
from viral_engine.data import SessionToken, TokenSigner
from viral_engine.lsn import Lsn

SOON = timedelta(seconds=10)
SIGNER = TokenSigner("shared")


@asynccontextmanager
async def _second_pair(pair: PostgresPair) -> AsyncIterator[PostgresPair]:
    """Copies of the primary's data, not started and not made yet; removed at the end."""
    root = Path(tempfile.mkdtemp(prefix="viral-branch-"))
    if os.geteuid() == 0:
        os.chown(root, UNPRIVILEGED, UNPRIVILEGED)
    net = pair.primary.address.rpartition(".")[0]
    second = PostgresPair(
        Server("iad", f"{net}.3", 5432, root / "iad"), Server("lhr", f"{net}.4", 5432, root / "lhr")
    )
    try:
        yield second
    finally:
        for server in (second.replica, second.primary):
            if server.runs:
                server.stop("immediate")
        shutil.rmtree(root)


async def _cut_off(server: Server) -> None:
    await server.ask("alter system set primary_conninfo = ''")
    await server.ask("select pg_reload_conf()")

    async def receives_nothing() -> bool:
        return await server.ask("select count(*) from pg_stat_wal_receiver") == 0

    await wait_until(receives_nothing, timeout=SOON, waiting_for="the receiver to end")


def _read(text: str) -> SessionToken:
    token = SIGNER.read(text)
    assert isinstance(token, SessionToken), token
    return token


async def test_r04_r05_a_token_of_the_lost_branch_is_bounded_and_never_satisfied_by_a_number(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with _second_pair(postgres_pair) as second:
        second.primary.copy_and_follow(postgres_pair.primary)
        await _cut_off(second.primary)
        client = Client()
        async with both_regions(postgres_pair, migrated) as (iad, lhr):
            lost = await client.write(lhr, iad)
        old = client.token
        await second.primary.ask("select pg_promote()")
        # The replica in London is still on the lost branch, and has every byte that was lost.
        on_lost_branch = PostgresPair(second.primary, postgres_pair.replica)
        async with both_regions(on_lost_branch, migrated) as (_, lhr):
            began = monotonic()
            read = await client.ask(lhr, "GET", lost.headers["location"])
            assert monotonic() - began < 5  # a commit would be waited for 15 s
            assert read.headers["viral-route"] == "primary; reason=replica-not-streaming"
            assert read.status_code == 404
            assert _read(client.token).timeline == 2
        second.replica.copy_and_follow(second.primary)
        async with both_regions(second, migrated) as (iad, lhr):
            created = await client.write(lhr, iad)
            while _read(client.token).position <= _read(old).position:
                await second.primary.ask("select pg_logical_emit_message(false, '', 'x', true)")
                await client.ask(iad, "POST", "/api/tasks", {"title": "more"})
            await second.wait_until_replayed()
            passed = await second.replica.ask("select pg_last_wal_replay_lsn()::text")
            assert Lsn.parse(str(passed)) > _read(old).position
            told = await lhr.get(lost.headers["location"], headers={"viral-session": old})
            assert told.headers["viral-route"] == "primary; reason=timeline-changed"
            read = await client.ask(lhr, "GET", created.headers["location"])
            assert read.json() == created.json()
            assert read.headers["viral-route"] == "local; reason=replica"


async def test_a_version_that_a_failover_took_away_is_not_given_to_another_content(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with _second_pair(postgres_pair) as second:
        second.primary.copy_and_follow(postgres_pair.primary)
        async with both_regions(postgres_pair, migrated) as (iad, _):
            made = await iad.post("/api/tasks", json={"title": "one"})
            place = made.headers["location"]
            await PostgresPair(postgres_pair.primary, second.primary).wait_until_replayed()
            await _cut_off(second.primary)
            lost = await iad.patch(place, json={"title": "A"})
            assert lost.headers["etag"] == '"2"'
        await second.primary.ask("select pg_promote()")
        async with both_regions(
            PostgresPair(second.primary, postgres_pair.replica), migrated
        ) as (iad, _):  # fmt: skip
            other = await iad.patch(place, json={"title": "B"})
            assert other.headers["etag"] == f'"{2**32 + 1}"'
            seen = {"if-match": lost.headers["etag"]}
            refused = await iad.patch(place, json={"title": "C"}, headers=seen)
            assert (refused.status_code, refused.json()["current"]["title"]) == (412, "B")
            read = await iad.get(place, headers={"if-none-match": lost.headers["etag"]})
            assert (read.status_code, read.json()["title"]) == (200, "B")
            following = await iad.patch(place, json={"title": "D"})
            assert following.json()["version"] == 2**32 + 2
