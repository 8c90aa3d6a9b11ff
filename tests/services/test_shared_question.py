"""One question for all who have just read: each gets an answer that was asked after it came."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg
import pytest
import uvloop
from tests.services.postgres_pair import PostgresPair

from viral_engine.clock import wait_until
from viral_engine.data.asker import SharedQuestion
from viral_engine.errors import ReplicaUnavailableError

NAME = "viral-asks"
SOON = timedelta(seconds=10)
COUNT = b"select count(*) from pg_stat_activity where application_name = 'viral-asks'"


def question(url: str, statement: bytes = b"select txid_current()") -> SharedQuestion[int]:
    return SharedQuestion(url, statement, lambda found: int(found.get_value(0, 0) or 0), name=NAME)


async def test_all_who_come_before_a_question_is_sent_share_its_answer_and_later_ones_do_not(
    postgres_pair: PostgresPair,
) -> None:
    async with question(postgres_pair.primary.url()) as asked:
        await asked.answer()
        first = await asyncio.gather(*(asked.answer() for _ in range(50)))
        assert len(set(first)) == 1
        assert await asked.answer() > first[0]


async def test_one_who_goes_away_takes_the_answer_from_nobody(postgres_pair: PostgresPair) -> None:
    async with question(postgres_pair.primary.url()) as asked:
        waiting = [asyncio.create_task(asked.answer()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(done[1], asyncio.CancelledError)
        assert done[0] == done[2]


def test_a_connection_that_is_ended_while_nobody_asks_is_noticed_on_uvloop_too(
    postgres_pair: PostgresPair,
) -> None:
    url = postgres_pair.primary.url()

    async def ended_and_asked_again() -> None:
        async with (
            question(url) as asked,
            await psycopg.AsyncConnection.connect(url, autocommit=True) as other,
        ):

            async def is_gone() -> bool:
                row = await (await other.execute(COUNT)).fetchone()
                return row == (0,)

            for _ in range(5):
                await asked.answer()
                await other.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where application_name = %s",
                    [NAME],
                )
                await wait_until(is_gone, timeout=SOON, waiting_for="the backend to end")
                # Whoever opens something now may get the number that its socket had.
                server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
                async with asyncio.timeout(5), server:
                    assert await asked.answer() > 0

    uvloop.run(ended_and_asked_again())


async def test_a_node_that_is_silent_is_given_up_after_two_seconds_and_asked_anew_the_next_time(
    postgres_pair: PostgresPair,
) -> None:
    slow = b"select case when random() < 2 then pg_sleep(3) end is null, 1"
    async with question(postgres_pair.primary.url(), slow) as asked:
        async with asyncio.timeout(5):
            answers = await asyncio.gather(asked.answer(), asked.answer(), return_exceptions=True)
        assert all(isinstance(answer, ReplicaUnavailableError) for answer in answers)


async def test_a_farewell_before_the_question_is_sent_fails_who_asked_and_nobody_after(
    postgres_pair: PostgresPair,
) -> None:
    async with question(postgres_pair.primary.url()) as asked:
        await asked.answer()
        unlucky = asyncio.ensure_future(asked.answer())
        asyncio.get_running_loop().call_soon(asked._fail, "it ended the connection")
        with pytest.raises(ReplicaUnavailableError):
            await unlucky
        async with asyncio.timeout(5):
            await asyncio.gather(*(asked.answer() for _ in range(3)))
            await asked.answer()
