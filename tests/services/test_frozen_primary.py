"""A machine that is frozen keeps its connections open and says nothing: nobody waits for it for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import timedelta

import psutil
import psycopg
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path
from tests.services import nodes_world
from tests.services.postgres_pair import PostgresPair, Server
from tests.services.strong_world import (
    SOON,
    World,
    in_region,
    insert,
    stored,
    user_of_app,
    values,
    world,
)

from viral_engine.clock import SYSTEM_CLOCK, wait_until
from viral_engine.cluster import ClusterView, DatabaseAddresses, NodeView, Role
from viral_engine.cluster.links import answered_within, break_off
from viral_engine.cluster.probe import NodeProbe
from viral_engine.data import Databases
from viral_engine.errors import NoPrimaryError
from viral_engine.lsn import Lsn
from viral_engine.observe import NodeLost, PrimaryChanged
from viral_engine.topology.model import Consistency

SLEEPING = """
select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'
"""
HANGS = 8.0
"""Seconds after which nobody had an answer; what is lost is known to be so after 3."""


def frozen(server: Server) -> AbstractContextManager[None]:
    """Stop every process of a server where it is, until the block ends."""
    first = psutil.Process(int((server.folder / "postmaster.pid").read_text().split()[0]))
    return nodes_world.frozen([first, *first.children()])


@asynccontextmanager
async def receiving_nothing(pair: PostgresPair) -> AsyncIterator[None]:
    """Let the replica be cut off from its primary, and follow it again after the block."""
    before = str(await pair.replica.ask("select current_setting('primary_conninfo')"))

    async def follow(whom: str, receivers: int) -> None:
        await pair.replica.ask(f"alter system set primary_conninfo = '{whom}'")
        await pair.replica.ask("select pg_reload_conf()")

        async def does() -> bool:
            return await pair.replica.ask("select count(*) from pg_stat_wal_receiver") == receivers

        await wait_until(does, timeout=SOON, waiting_for=f"{receivers} receivers")

    await follow("", 0)
    try:
        yield
    finally:
        await follow(before.replace("'", "''"), 1)


def reads_in(here: World) -> Starlette:
    """An app that answers the numbers that it reads."""

    async def read(_request: Request) -> Response:
        return JSONResponse(await values(here.databases))

    return Starlette(routes=[Path("/read", read)])


async def test_a_read_that_a_frozen_primary_does_not_answer_is_read_again_near(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with (
        world(postgres_pair, numbers, "lhr") as here,
        user_of_app(in_region(reads_in(here), here, region="lhr")) as user,
    ):
        await insert(here.databases, 1)
        await postgres_pair.wait_until_replayed()
        async with receiving_nothing(postgres_pair):
            await here.cluster.wait_for(
                lambda view: (node := view.node("lhr")) is not None and not node.streaming,
                timeout=SOON,
            )
            far = await user.get("/read")
            assert far.headers["viral-route"] == "primary; reason=replica-not-streaming"
            with frozen(postgres_pair.primary):
                async with asyncio.timeout(HANGS):
                    again = await user.get("/read")
            assert (again.status_code, again.json()) == (200, [1])
            assert again.headers["viral-route"] == "local; reason=replica"


async def test_a_probe_of_a_frozen_node_ends_when_it_says(postgres_pair: PostgresPair) -> None:
    probe = NodeProbe("iad", postgres_pair.primary.url(), machine="m1")
    async with probe:
        assert (await probe.ask(SYSTEM_CLOCK)).answer is not None
        with frozen(postgres_pair.primary):
            async with asyncio.timeout(HANGS / 2):
                said = await probe.ask(SYSTEM_CLOCK)
    assert (said.answer, said.reason) == (None, "no answer in 2 s")


async def test_what_is_answered_in_time_is_not_broken_off(postgres_pair: PostgresPair) -> None:
    url = postgres_pair.primary.url()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        with answered_within(connection, 5):
            await connection.execute("select")
        with pytest.raises(psycopg.errors.UndefinedColumn), answered_within(connection, 5):
            await connection.execute("select nothing")
        late = pytest.raises(TimeoutError, match=r"^no answer in 0.1 s$")
        with late, answered_within(connection, 0.1):
            await connection.execute("select pg_sleep(60)")
        assert connection.closed
        break_off(connection)
    break_off(connection)


LOST, NEXT, SAME = (
    PrimaryChanged("iad", None), PrimaryChanged(None, "lhr"), PrimaryChanged(None, "iad")
)  # fmt: skip


@asynccontextmanager
async def writer(
    pair: PostgresPair, database: str, *, guarded: bool = True, commit_limit: timedelta = SOON
) -> AsyncIterator[tuple[Databases, asyncio.Task[None]]]:
    """Databases of which the primary is ``iad``, and a write that is under way there."""
    iad = NodeView(
        "iad", Role.PRIMARY, 1, Lsn(1), 0.0, reachable=True, observed_at=0.0, guarded=guarded,
        holds_primacy=True,
    )  # fmt: skip
    urls = {"iad": pair.primary.url(database), "lhr": pair.replica.url(database)}
    databases = Databases(
        DatabaseAddresses(primary=urls["iad"], nodes=urls), here="lhr", machine="m1",
        view=lambda: ClusterView("iad", (iad,)), commit_limit=commit_limit,
    )  # fmt: skip

    async def write() -> None:
        async with databases.writing(Consistency.EVENTUAL) as connection:
            await connection.execute("insert into t select 7 from pg_sleep(2)")

    async def is_under_way() -> bool:
        return await pair.primary.ask(SLEEPING, database) == 1

    async with databases:
        writing = asyncio.create_task(write())
        await wait_until(is_under_way, timeout=SOON, waiting_for="the write to be under way")
        yield databases, writing


async def goes_on(writing: asyncio.Task[None], seconds: float = 1) -> bool:
    done, _ = await asyncio.wait({writing}, timeout=seconds)
    return not done


async def fails(writing: asyncio.Task[None]) -> None:
    async with asyncio.timeout(HANGS / 2):
        with pytest.raises(NoPrimaryError):
            await writing


@pytest.mark.parametrize("guarded", [True, False])
async def test_a_write_at_a_frozen_primary_is_given_up_when_another_is_known_and_not_before(
    postgres_pair: PostgresPair, numbers: str, *, guarded: bool
) -> None:
    async with writer(postgres_pair, numbers, guarded=guarded) as (databases, writing):
        with frozen(postgres_pair.primary):
            databases.note(NodeLost("iad", "no answer in 2 s"))
            databases.note(LOST)
            assert await goes_on(writing)
            databases.note(NEXT)
            await fails(writing)
        assert await stored(postgres_pair.primary, numbers) == []


async def test_where_nobody_follows_a_write_is_given_up_after_as_long_as_a_commit_may_take(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    limit = timedelta(seconds=1)
    async with writer(postgres_pair, numbers, commit_limit=limit) as (databases, writing):
        with frozen(postgres_pair.primary):
            databases.note(LOST)
            await fails(writing)


async def test_a_primary_that_was_silent_for_a_moment_loses_no_write(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    limit = timedelta(seconds=1)
    async with writer(postgres_pair, numbers, commit_limit=limit) as (databases, writing):
        with frozen(postgres_pair.primary):
            databases.note(LOST)
            databases.note(SAME)
            assert await goes_on(writing, 2)  # longer than the limit
        await writing
        databases.note(PrimaryChanged("iad", "lhr"))
        assert await stored(postgres_pair.primary, numbers) == [7]
