"""What an app writes, and reads at the primary, may go through a PgBouncer in transaction mode."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from time import monotonic

import psycopg
import pytest
from psycopg.rows import scalar_row
from sqlalchemy import func, select, text
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path
from tests.services.orm_world import Thing
from tests.services.pgbouncer_world import SERVER_CONNECTIONS, Pooler, behind, pgbouncer
from tests.services.postgres_pair import PostgresPair
from tests.services.strong_world import (
    SOON,
    World,
    all_answer,
    in_region,
    insert,
    install,
    primacy_file,
    stored,
    synchronous,
    until_waiting,
    user_of_app,
    values,
)
from tests.services.task_service import unless_busy

from viral_engine.clock import NotYet, wait_until
from viral_engine.cluster import ClusterWatcher, DatabaseAddresses
from viral_engine.data import Databases, Route, RouteKind, Session, routed
from viral_engine.data.orm import RoutedSessions, routed_engine
from viral_engine.errors import NoPrimaryError, ReplicaUnavailableError, UnknownOutcomeError
from viral_engine.topology.model import Consistency

HERE = Route(RouteKind.LOCAL, "primary-here", "iad")
FAR = Route(RouteKind.PRIMARY, "no-replica-here", "iad")
NEAR = Route(RouteKind.LOCAL, "replica", "lhr")
COMMITTING = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'"
END = "select pg_{how}_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'"


@pytest.fixture
async def pooler(postgres_pair: PostgresPair) -> AsyncIterator[Pooler]:
    async with pgbouncer(postgres_pair) as running:
        yield running


async def _insert(
    here: World, value: int, consistency: Consistency = Consistency.EVENTUAL
) -> Session:
    with routed(HERE, consistency=consistency) as bound:
        await insert(here.databases, value)
    return bound.session


async def test_a_write_goes_through_it_and_is_read_at_once_at_the_replica_by_its_token(
    postgres_pair: PostgresPair, numbers: str, pooler: Pooler
) -> None:
    async with behind(pooler, postgres_pair, numbers, here="lhr") as here:
        for value in range(20):
            session = await _insert(here, value)
            token = session.token
            assert token is not None
            await here.cluster.wait_until_replayed(
                "lhr", timeline=token.timeline, lsn=token.position, timeout=SOON
            )
            with routed(NEAR, session) as bound:
                bound.session.wrote = False  # as in the client's next request
                assert (await values(here.databases))[-1] == value
        assert bound.route == NEAR
        names = {server["application_name"] for server in await pooler.servers(numbers)}
        assert names == {"viral-write m1"}
        watchers = (
            "select count(*) from pg_stat_activity where application_name like 'viral-watch%'"
        )
        assert await postgres_pair.primary.ask(watchers) == 1


async def test_fifty_writes_at_once_share_its_five_sessions_and_all_are_acknowledged(
    postgres_pair: PostgresPair, numbers: str, pooler: Pooler
) -> None:
    async with behind(pooler, postgres_pair, numbers, pool_size=50) as here:
        for turn in range(2):
            batch = range(turn * 50, turn * 50 + 50)
            todo = list(batch)
            while todo:
                done = await asyncio.gather(
                    *(_insert(here, value) for value in todo), return_exceptions=True
                )
                # What found no connection in time was refused before anything: it is asked again.
                refused = [isinstance(result, NoPrimaryError) for result in done]
                assert all(
                    no or isinstance(r, Session) for no, r in zip(refused, done, strict=True)
                )
                assert len(todo) > sum(refused), done
                todo = [value for value, no in zip(todo, refused, strict=True) if no]
        assert 0 < len(await pooler.servers(numbers)) <= SERVER_CONNECTIONS
    assert await stored(postgres_pair.primary, numbers) == list(range(100))


async def test_read_statements_with_values_work_at_whatever_session_they_come_to(
    postgres_pair: PostgresPair, numbers: str, pooler: Pooler
) -> None:
    async with behind(pooler, postgres_pair, numbers, pool_size=20) as here:
        await asyncio.gather(*(_insert(here, value) for value in range(20)))

        async def read(value: int) -> None:
            for _ in range(10):
                with routed(FAR):
                    rows = await here.databases.select(
                        b"select value from t where value = %(value)s",
                        {"value": value},
                        row_factory=scalar_row,
                    )
                assert rows == [value]

        await asyncio.gather(*map(read, range(20)))
        assert 0 < len(await pooler.servers(numbers)) <= SERVER_CONNECTIONS


@pytest.mark.parametrize("consistency", [Consistency.EVENTUAL, Consistency.STRONG])
async def test_what_reads_through_it_cannot_write_even_when_it_ends_its_transaction(
    postgres_pair: PostgresPair, numbers: str, pooler: Pooler, consistency: Consistency
) -> None:
    async with behind(pooler, postgres_pair, numbers) as here:

        async def write(*, ends: bool) -> None:
            async with here.databases.reading() as connection:
                if ends:
                    await connection.commit()
                await connection.execute("insert into t values (1)")

        for ends in (False, True):
            refused = pytest.raises(psycopg.errors.ReadOnlySqlTransaction)
            with routed(FAR, consistency=consistency), refused:
                await write(ends=ends)
        # Nothing of that stays with a session that others get.
        await asyncio.gather(*(_insert(here, value) for value in range(10)))
    assert await stored(postgres_pair.primary, numbers) == list(range(10))


async def test_several_reads_of_one_block_see_what_is_committed_between_them(
    postgres_pair: PostgresPair, numbers: str, pooler: Pooler
) -> None:
    async with behind(pooler, postgres_pair, numbers) as here:
        with routed(FAR) as bound:
            async with here.databases.reading() as connection:
                counted = [await _count(connection)]
                await postgres_pair.primary.ask("insert into t values (1)", numbers)
                counted.append(await _count(connection))
                async with connection.transaction():
                    counted.append(await _count(connection))
        assert counted == [0, 1, 1]
        assert bound.session.token is not None


async def _count(connection: psycopg.AsyncConnection[tuple[int]]) -> int:
    row = await (await connection.execute("select count(*) from t")).fetchone()
    assert row
    return row[0]


async def test_an_error_undoes_its_transaction_and_nobody_else_s(
    postgres_pair: PostgresPair, numbers: str, pooler: Pooler
) -> None:
    async with behind(pooler, postgres_pair, numbers, pool_size=20) as here:

        async def write(value: int) -> None:
            async with here.databases.writing() as connection:
                for _ in range(1 + value % 2):
                    await connection.execute("insert into t values (%s)", [value])

        async def swallow() -> None:
            async with here.databases.writing() as connection:
                with suppress(psycopg.errors.DivisionByZero):
                    await connection.execute("select 1 / 0")

        done = await asyncio.gather(*map(write, range(20)), return_exceptions=True)
        assert all(result is None for result in done[::2])
        assert {type(result) for result in done[1::2]} == {psycopg.errors.UniqueViolation}
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            await swallow()
    assert await stored(postgres_pair.primary, numbers) == list(range(0, 20, 2))


@pytest.mark.parametrize("how", ["cancel", "terminate"])
async def test_a_commit_whose_wait_was_ended_is_unknown_through_it_as_well(
    postgres_pair: PostgresPair, numbers: str, pooler: Pooler, how: str
) -> None:
    async with (
        synchronous(postgres_pair),
        behind(pooler, postgres_pair, numbers) as here,
        postgres_pair.replay_paused(),
    ):
        task = asyncio.create_task(_insert(here, 1, Consistency.STRONG))
        await until_waiting(postgres_pair.primary)
        await postgres_pair.primary.ask(END.format(how=how))
        with pytest.raises(UnknownOutcomeError):
            await task
        assert await stored(postgres_pair.primary, numbers) == [1]
        # The level was that transaction's own: this one waits for nobody.
        await _insert(here, 2, Consistency.EVENTUAL)


async def test_a_commit_that_it_was_killed_over_is_unknown_and_may_have_happened(
    postgres_pair: PostgresPair, numbers: str, pooler: Pooler
) -> None:
    async with synchronous(postgres_pair), behind(pooler, postgres_pair, numbers) as here:
        async with postgres_pair.replay_paused():
            task = asyncio.create_task(_insert(here, 1, Consistency.STRONG))
            await until_waiting(postgres_pair.primary)
            pooler.process.kill()
            with pytest.raises(UnknownOutcomeError):
                await task
        await until_waiting(postgres_pair.primary, 0)

        async def is_shown() -> bool:
            return await stored(postgres_pair.primary, numbers) == [1]

        await wait_until(is_shown, timeout=SOON, waiting_for="the row to be shown")


async def test_a_strong_write_through_it_is_held_by_two_regions_and_read_strongly(
    postgres_pair: PostgresPair, numbers: str, pooler: Pooler
) -> None:
    async with synchronous(postgres_pair), behind(pooler, postgres_pair, numbers) as here:
        with routed(HERE, consistency=Consistency.STRONG) as bound:
            await insert(here.databases, 1)
        assert not bound.in_one_region
        assert await stored(postgres_pair.replica, numbers) == [1]
        with routed(HERE, consistency=Consistency.STRONG):
            assert await values(here.databases) == [1]


async def test_primacy_is_asked_of_the_server_that_it_leads_to(
    postgres_pair: PostgresPair, numbers: str, pooler: Pooler
) -> None:
    await install(postgres_pair, numbers, "cluster/functions.sql")
    with primacy_file(postgres_pair.primary) as primacy:
        async with behind(pooler, postgres_pair, numbers) as here:
            async with primacy.held():
                await _insert(here, 1, Consistency.STRONG)
                with routed(HERE, consistency=Consistency.STRONG):
                    assert await values(here.databases) == [1]
            with pytest.raises(UnknownOutcomeError, match="could no longer prove"):
                await _insert(here, 2)
            with (
                routed(HERE, consistency=Consistency.STRONG),
                pytest.raises(NoPrimaryError),
            ):
                await values(here.databases)


def _app(here: World) -> Starlette:
    async def add(request: Request) -> Response:
        await insert(here.databases, (await request.json())["value"])
        return JSONResponse({"done": True}, 201)

    async def note_and_read(_request: Request) -> Response:
        async with here.databases.reading() as connection:
            await connection.execute("insert into t values (7)")
        return JSONResponse({"done": True})

    return Starlette(
        routes=[
            Path("/add", add, methods=["POST"]),
            Path("/read", note_and_read, methods=["GET"]),
        ]
    )


async def test_sessions_of_sqlalchemy_write_and_read_through_it(
    postgres_pair: PostgresPair, things: str, pooler: Pooler
) -> None:
    async with behind(pooler, postgres_pair, things, pool_size=8) as here:
        engine = routed_engine(here.databases)
        sessions = RoutedSessions(engine)

        async def write_and_read(value: int) -> None:
            with routed(HERE):
                async with sessions.writing() as session:
                    session.add(Thing(value=value))
                    await session.commit()
            with routed(FAR, consistency=Consistency.STRONG) as bound:
                async with sessions.reading() as session:
                    assert await session.get(Thing, value) is not None
                assert bound.session.token is not None

        await asyncio.gather(*map(write_and_read, range(8)))
        repeatable = sessions.engine.execution_options(isolation_level="REPEATABLE READ")
        with routed(FAR) as bound:
            async with RoutedSessions(repeatable).reading() as session:
                assert await session.scalar(select(func.count()).select_from(Thing)) == 8
                await postgres_pair.primary.ask("insert into thing values (100)", things)
                assert await session.scalar(select(func.count()).select_from(Thing)) == 8
                assert await session.scalar(text("show transaction_read_only")) == "on"
            assert bound.session.token is not None
        await engine.dispose()
        assert 0 < len(await pooler.servers(things)) <= SERVER_CONNECTIONS


async def test_an_idempotency_key_is_kept_through_it(
    postgres_pair: PostgresPair, numbers: str, pooler: Pooler
) -> None:
    await install(postgres_pair, numbers, "data/schema.sql")
    async with (
        behind(pooler, postgres_pair, numbers, pool_size=20) as here,
        user_of_app(in_region(_app(here), here)) as user,
    ):
        answers = await asyncio.gather(
            *(
                unless_busy(
                    partial(user.post, "/add", json={"value": 1}, headers={"idempotency-key": "k"})
                )
                for _ in range(20)
            )
        )
    assert {answer.status_code for answer in answers} == {201}
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 19
    assert await stored(postgres_pair.primary, numbers) == [1]


async def test_a_handler_declared_to_read_that_writes_is_served_once_more_where_it_may(
    postgres_pair: PostgresPair, numbers: str, pooler: Pooler
) -> None:
    async with behind(pooler, postgres_pair, numbers, here="syd") as syd:
        app = in_region(_app(syd), syd, region="syd")
        async with user_of_app(app) as user:
            answer = await user.get("/read")
            assert answer.status_code == 409
            assert answer.headers["fly-replay"].startswith("region=iad;")
            assert await stored(postgres_pair.primary, numbers) == []


async def test_where_it_has_no_session_to_give_writes_and_reads_are_refused_in_time(
    postgres_pair: PostgresPair, numbers: str, pooler: Pooler
) -> None:
    async with behind(pooler, postgres_pair, numbers, here="syd") as here:
        await _insert(here, 1)
        with routed(FAR):
            await values(here.databases)
        pooler.process.send_signal(signal.SIGSTOP)
        began = monotonic()
        with pytest.raises(NoPrimaryError, match="no transaction could be begun there in 5 s"):
            await _insert(here, 2)
        assert 4.5 < monotonic() - began < 8
        pooler.process.send_signal(signal.SIGCONT)

        async def writes_again() -> bool | NotYet:
            try:
                await _insert(here, 3)
            except NoPrimaryError as error:
                return NotYet(error.message)
            return True

        await wait_until(writes_again, timeout=SOON, waiting_for="the pooler to serve again")
    assert await stored(postgres_pair.primary, numbers) == [1, 3]


@pytest.mark.parametrize("wait_s", [1, 120])
async def test_while_all_its_sessions_are_in_use_a_write_and_a_read_are_refused_in_time(
    postgres_pair: PostgresPair, numbers: str, wait_s: int
) -> None:
    """By PgBouncer itself, or by us where its own limit (120 s by default) is longer than ours."""
    async with (
        pgbouncer(postgres_pair, wait_s=wait_s) as pooler,
        behind(pooler, postgres_pair, numbers) as here,
    ):
        go = asyncio.Event()

        async def hold() -> None:
            async with here.databases.writing() as connection:
                await connection.execute("select 1")
                await go.wait()

        async with asyncio.TaskGroup() as group:
            for _ in range(SERVER_CONNECTIONS):
                group.create_task(hold())

            async def all_held() -> bool:
                rows = await pooler.servers(numbers)
                return sum(row["state"] == "active" for row in rows) == SERVER_CONNECTIONS

            await wait_until(all_held, timeout=SOON, waiting_for="every session to be held")
            began = monotonic()
            with routed(FAR, consistency=Consistency.STRONG):
                refused = await asyncio.gather(
                    _insert(here, 1), values(here.databases), return_exceptions=True
                )
            assert [type(error) for error in refused] == [NoPrimaryError] * 2
            assert min(wait_s, 5) - 0.5 < monotonic() - began < min(wait_s, 5) + 3
            go.set()
        await _insert(here, 2)
    assert await stored(postgres_pair.primary, numbers) == [2]


async def test_a_restart_of_it_costs_no_write_that_was_not_under_way(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with pgbouncer(postgres_pair) as first, behind(first, postgres_pair, numbers) as here:
        await asyncio.gather(*(_insert(here, value) for value in range(10)))
        first.process.terminate()
        await asyncio.to_thread(first.process.wait, 10)
        async with pgbouncer(postgres_pair):
            await asyncio.gather(*(_insert(here, value) for value in range(10, 20)))
    assert await stored(postgres_pair.primary, numbers) == list(range(20))


async def test_a_replica_s_address_that_leads_to_a_pooler_serves_no_read_and_the_log_says_why(
    postgres_pair: PostgresPair, numbers: str, pooler: Pooler, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = {"iad": pooler.url(numbers)}
    async with ClusterWatcher(nodes, machine="m1") as cluster:
        await cluster.wait_for(all_answer, timeout=SOON)
        databases = Databases(
            DatabaseAddresses(nodes["iad"], nodes),
            here="iad",
            machine="m1",
            view=lambda: cluster.view,
        )
        async with databases:
            with routed(HERE), pytest.raises(ReplicaUnavailableError):
                await values(databases)
    assert "unsupported startup parameter" in caplog.text
