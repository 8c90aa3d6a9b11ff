"""A client that carries its token sees its own writes and never goes back in time."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

import httpx
import psycopg
from tests.services.postgres_pair import PostgresPair
from tests.services.task_service import both_regions, environ_of, user_of

from viral_engine.clock import wait_until

_SOON = timedelta(seconds=10)
# Who asked the replica where it stands: whoever waits for it has a connection of their own.
_WATCHERS = """
select count(*) from pg_stat_activity
where application_name like 'viral-watch lhr%' and query like '%received_tli%'
"""


@dataclass
class Client:
    """Keeps the token of the last answer, as a browser keeps the cookie."""

    token: str = ""

    async def ask(
        self, region: httpx.AsyncClient, method: str, path: str, body: object = None
    ) -> httpx.Response:
        sent = {"viral-session": self.token} if self.token else {}
        answer = await region.request(method, path, json=body, headers=sent)
        self.token = answer.headers.get("viral-session", self.token)
        return answer

    async def write(
        self,
        near: httpx.AsyncClient,
        primary: httpx.AsyncClient,
        path: str = "/api/tasks",
        *,
        method: str = "POST",
        title: str = "t",
    ) -> httpx.Response:
        """Write from the region that is near, as the platform's proxy leads it."""
        first = await self.ask(near, method, path, {"title": title})
        assert first.headers["fly-replay"].startswith("region=iad;")
        answer = await self.ask(primary, method, path, {"title": title})
        assert answer.is_success, answer.text
        return answer


async def test_own_writes_from_far_are_read_at_once_in_the_own_region_every_time(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    routes: list[str] = []
    async with both_regions(postgres_pair, migrated) as (iad, lhr):
        client = Client()
        for number in range(100):
            created = await client.write(lhr, iad, title=f"t{number}")
            read = await client.ask(lhr, "GET", created.headers["location"])
            assert read.status_code == 200, f"read {number} was stale: {read.headers}"
            assert read.json() == created.json()
            routes.append(read.headers["viral-route"].partition("; waited=")[0])
    near = {"local; reason=replica", "wait; reason=replica-behind"}
    assert set(routes) <= near, routes


async def test_behind_its_token_a_read_waits_within_its_budget_and_then_asks_the_primary(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with both_regions(postgres_pair, migrated) as (iad, lhr):
        client = Client()
        async with postgres_pair.replay_paused():
            created = await client.write(lhr, iad)
            place = created.headers["location"]
            began = monotonic()
            read = await client.ask(lhr, "GET", place)
            waited = monotonic() - began
            assert read.status_code == 200
            assert read.headers["viral-route"] == "primary; reason=replica-behind"
            assert "viral-staleness" not in read.headers
            assert 2 <= waited < 10
            stale = await lhr.get(place)
            assert stale.status_code == 404
            assert stale.headers["viral-route"] == "local; reason=replica"
            assert float(stale.headers["viral-staleness"]) >= 0


async def test_a_replica_that_catches_up_within_the_budget_serves_the_read_itself(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with both_regions(postgres_pair, migrated) as (iad, lhr):
        client = Client()
        # One connection for all looks: the budget of the read is running.
        async with (
            await psycopg.AsyncConnection.connect(
                postgres_pair.replica.url(), autocommit=True
            ) as looking,
            asyncio.TaskGroup() as group,
        ):

            async def watchers() -> object:
                return await (await looking.execute(_WATCHERS.encode())).fetchone()

            async with postgres_pair.replay_paused():
                created = await client.write(lhr, iad)
                asked = await watchers()
                reading = group.create_task(
                    client.ask(lhr, "GET", created.headers["location"]), name="reading"
                )

                async def is_waiting() -> bool:
                    return await watchers() != asked

                await wait_until(is_waiting, timeout=_SOON, waiting_for="the read to wait")
                assert not reading.done()
                await looking.execute(b"select pg_wal_replay_resume()")
            resumed = monotonic()
            read = await reading
            assert monotonic() - resumed < 2
        assert read.json() == created.json()
        route, _, waited = read.headers["viral-route"].partition("; waited=")
        assert route == "wait; reason=replica-behind"
        assert 0 < float(waited) < 2
        assert float(read.headers["viral-staleness"]) >= 0


async def test_no_client_goes_back_in_time_between_regions_and_without_tokens_one_does(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    pick = random.Random(7)
    with_token, without = Client(), Client()
    back = 0
    async with both_regions(postgres_pair, migrated) as (iad, lhr):
        created = await Client().write(lhr, iad)
        place, written = created.headers["location"], 1
        await postgres_pair.wait_until_replayed()
        seen, seen_without = 1, 1
        for _ in range(4):
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(postgres_pair.replay_paused())
                for _ in range(4):
                    changed = await iad.patch(place, json={"title": f"v{written}"})
                    written = changed.json()["version"]
                    read = await with_token.ask(pick.choice((iad, lhr, lhr)), "GET", place)
                    assert seen <= read.json()["version"] <= written
                    seen = read.json()["version"]
                    without.token = ""
                    bare = await without.ask(pick.choice((iad, lhr)), "GET", place)
                    back += bare.json()["version"] < seen_without
                    seen_without = bare.json()["version"]
            after = await with_token.ask(lhr, "GET", place)
            assert after.json()["version"] >= seen
            seen = after.json()["version"]
    assert back > 0, "the schedule shows nothing: reads without a token never went back"


async def test_r12_where_a_region_has_no_replica_writes_return_and_reads_see_them(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with (
        both_regions(postgres_pair, migrated) as (iad, _),
        user_of(environ_of(postgres_pair, migrated, "syd")) as syd,
    ):

        async def sees_the_primary() -> bool:
            regions = (await syd.get("/api/regions")).json()
            return bool(regions["primary_region"] == "iad")

        await wait_until(sees_the_primary, timeout=_SOON, waiting_for="the primary to be seen")
        client = Client()
        created = await client.write(syd, iad)
        read = await client.ask(syd, "GET", created.headers["location"])
        assert read.json() == created.json()
        assert read.headers["viral-route"] == "primary; reason=no-replica-here"


async def test_reads_with_a_token_go_on_near_from_the_moment_the_primary_is_lost(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with both_regions(postgres_pair, migrated) as (iad, lhr):
        client = Client()
        place = (await client.write(lhr, iad)).headers["location"]
        await postgres_pair.wait_until_replayed()
        postgres_pair.primary.stop("immediate")
        try:
            for _ in range(20):
                read = await client.ask(lhr, "GET", place)
                assert read.status_code == 200, read.text
                assert read.headers["viral-route"] == "local; reason=replica"

            async def primary_is_gone() -> bool:
                return (await lhr.get("/api/regions")).json()["primary_region"] is None

            await wait_until(primary_is_gone, timeout=_SOON, waiting_for="the loss to be seen")
            for _ in range(20):
                read = await client.ask(lhr, "GET", place)
                assert read.status_code == 200, read.text
        finally:
            postgres_pair.primary.start()

        async def is_written() -> bool:
            return (await iad.post("/api/tasks", json={"title": "again"})).status_code == 201

        await wait_until(is_written, timeout=_SOON, waiting_for="writes at the primary")
        await postgres_pair.wait_until_replayed()


async def test_a_token_outlives_a_change_of_the_key(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    environ = environ_of(postgres_pair, migrated, "iad")
    changed = {**environ, "VIRAL_SECRET": "next", "VIRAL_SECRET_PREVIOUS": environ["VIRAL_SECRET"]}
    forgotten = {**environ, "VIRAL_SECRET": "next"}
    async with user_of(environ) as before, user_of(changed) as after, user_of(forgotten) as other:
        client = Client()
        await client.ask(before, "POST", "/api/tasks", {"title": "x"})
        sent = {"viral-session": client.token}
        assert "viral-session-ignored" not in (await after.get("/api/tasks", headers=sent)).headers
        ignored = await other.get("/api/tasks", headers=sent)
        assert ignored.headers["viral-session-ignored"] == "unknown-key"
