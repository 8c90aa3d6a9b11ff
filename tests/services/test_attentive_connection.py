"""A connection that stays registered with the loop: it does what psycopg's own does."""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import uvloop
from tests.services.postgres_pair import PostgresPair

from viral_engine.clock import wait_until
from viral_engine.cluster.links import answered_within, break_off
from viral_engine.data.attentive import AttentiveConnection

SOON = timedelta(seconds=10)
NAME = "viral-attentive"
BUSY = "select count(*) from pg_stat_activity where application_name = %s and state = 'active'"
END = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s"

Body = Callable[[AttentiveConnection, psycopg.AsyncConnection[Any]], Awaitable[None]]
Run = Callable[[Body], None]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, postgres_pair: PostgresPair) -> Run:
    """Run a test's body in a loop of its own, with the connection and somebody who looks at it."""
    runner: Callable[[Coroutine[Any, Any, None]], None] = request.param

    @asynccontextmanager
    async def connected() -> AsyncIterator[tuple[AttentiveConnection, Any]]:
        url = postgres_pair.primary.url()
        own = await AttentiveConnection.connect(url, autocommit=True, application_name=NAME)
        async with own, await psycopg.AsyncConnection.connect(url, autocommit=True) as other:
            yield own, other

    def ran(body: Body) -> None:
        async def whole() -> None:
            before = _open_files()
            async with asyncio.timeout(30), connected() as both:
                await body(*both)
            await wait_until(
                lambda: _open_files() <= before, timeout=SOON, waiting_for="its files to be closed"
            )

        runner(whole())

    return ran


async def one(connection: psycopg.AsyncConnection[Any], query: Any, *values: object) -> object:
    row = await (await connection.execute(query, values)).fetchone()
    return row and row[0]


async def busy(other: psycopg.AsyncConnection[Any], count: int) -> None:
    async def is_so() -> bool:
        return await one(other, BUSY, NAME) == count

    await wait_until(is_so, timeout=SOON, waiting_for=f"{count} busy connections")


def test_answers_of_any_length_and_errors_are_what_they_are(run: Run) -> None:
    async def body(own: AttentiveConnection, _other: object) -> None:
        for length in (1, 70_000, 5_000_000):
            assert await one(own, "select repeat('x', %s)", length) == "x" * length
            assert await one(own, "select length(%s)", "y" * length) == length
        with pytest.raises(psycopg.errors.DivisionByZero):
            await one(own, "select 1/0")
        assert await one(own, "select 1") == 1

    run(body)


def test_transactions_pipelines_streams_and_copies_go_on(run: Run) -> None:
    async def body(own: AttentiveConnection, _other: object) -> None:
        async with own.transaction():
            await own.execute("create temp table kept (value int)")
        async with own.pipeline(), own.transaction():
            for value in range(3):
                await own.execute("insert into kept values (%s)", [value])
        cursor = own.cursor()
        async with cursor.copy("copy kept from stdin") as copy:
            for value in range(20_000):
                await copy.write_row([value])
        assert await one(own, "select count(*) from kept") == 20_003
        assert len([row async for row in cursor.stream("select * from kept")]) == 20_003

    run(body)


def test_the_loop_goes_on_while_an_answer_is_waited_for(run: Run) -> None:
    async def body(own: AttentiveConnection, other: psycopg.AsyncConnection[Any]) -> None:
        async with other.transaction():
            await other.execute("select pg_advisory_xact_lock(7)")
            waits = asyncio.create_task(one(own, "select pg_advisory_lock(7)"))
            await asyncio.sleep(0.05)
            assert not waits.done()
        await waits

    run(body)


def test_what_is_cancelled_is_stopped_at_the_server_and_the_connection_stays(run: Run) -> None:
    async def body(own: AttentiveConnection, other: psycopg.AsyncConnection[Any]) -> None:
        for _ in range(3):
            long = asyncio.create_task(one(own, "select pg_sleep(20)"))
            await busy(other, 1)
            long.cancel("enough")
            with pytest.raises(asyncio.CancelledError):
                await long
            assert long.cancelled()
            await busy(other, 0)
            assert await one(own, "select 1") == 1

    run(body)


def test_a_time_limit_of_asyncio_around_it_is_a_timeout_and_not_a_cancellation(run: Run) -> None:
    async def body(own: AttentiveConnection, other: psycopg.AsyncConnection[Any]) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await one(own, "select pg_sleep(20)")
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        assert await one(own, "select 1") == 1
        await busy(other, 0)

    run(body)


@pytest.mark.parametrize("heard_of_it", [True, False])
def test_one_that_its_server_ends_while_idle_raises_at_the_next_statement(
    run: Run, *, heard_of_it: bool
) -> None:
    async def body(own: AttentiveConnection, other: psycopg.AsyncConnection[Any]) -> None:
        assert await one(own, "select 1") == 1
        assert await one(other, END, NAME) is True
        if heard_of_it:
            await wait_until(lambda: own._descriptor is None, timeout=SOON, waiting_for="the loop")
        else:
            # The loop does not run, so that the end and what is asked come to it together.
            _wait_for_the_end(own.pgconn.socket)
        async with asyncio.timeout(5):
            with pytest.raises(psycopg.OperationalError):
                await one(own, "select 1")
        assert own.closed

    run(body)


def test_one_whose_registration_the_loop_has_dropped_is_looked_at_all_the_same(run: Run) -> None:
    async def body(own: AttentiveConnection, _other: object) -> None:
        assert await one(own, "select 1") == 1
        assert own._descriptor is not None
        asyncio.get_running_loop().remove_reader(own._descriptor)
        async with asyncio.timeout(5):
            assert await one(own, "select 2") == 2

    run(body)


def test_one_that_its_server_ends_while_it_answers_raises_at_once(run: Run) -> None:
    async def body(own: AttentiveConnection, other: psycopg.AsyncConnection[Any]) -> None:
        long = asyncio.create_task(one(own, "select pg_sleep(20)"))
        await busy(other, 1)
        assert await one(other, END, NAME) is True
        with pytest.raises(psycopg.OperationalError):
            await long
        assert own.closed

    run(body)


@pytest.mark.parametrize("idle", [True, False])
def test_one_that_is_broken_off_raises_at_once(run: Run, *, idle: bool) -> None:
    async def body(own: AttentiveConnection, other: psycopg.AsyncConnection[Any]) -> None:
        assert await one(own, "select 1") == 1
        if idle:
            break_off(own)
            with pytest.raises(psycopg.OperationalError):
                await one(own, "select 1")
        else:
            with pytest.raises(TimeoutError), answered_within(own, 0.1):
                await one(own, "select pg_sleep(20)")
        assert own.closed

    run(body)


def test_a_notice_to_an_idle_connection_makes_no_work_and_is_heard_with_the_next_answer(
    run: Run,
) -> None:
    async def body(own: AttentiveConnection, other: psycopg.AsyncConnection[Any]) -> None:
        heard: list[str] = []
        own.add_notify_handler(lambda notify: heard.append(notify.payload))
        await own.execute("listen here")
        await other.execute("notify here, 'hello'")

        def is_let_go() -> bool:
            return own._descriptor is None

        await wait_until(is_let_go, timeout=SOON, waiting_for="the loop to hear of it")
        assert await one(own, "select 1") == 1
        assert heard == ["hello"]

    run(body)


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _wait_for_the_end(descriptor: int) -> None:
    said = select.poll()
    said.register(descriptor, select.POLLRDHUP)
    assert said.poll(SOON.total_seconds() * 1000)
