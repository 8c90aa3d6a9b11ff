from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viral_engine.clock import wait_until
from viral_engine.cluster.replay import ReplayWatcher
from viral_engine.cluster.view import Answer, Observation
from viral_engine.lsn import Lsn

SOON = timedelta(seconds=5)


class Replica:
    """Answers with its position as it was when it was asked, and counts the questions."""

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.timeline = 1
        self.streaming = True
        self.in_recovery = True
        self.silent = False
        self.asked = 0
        self.now_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def ask(self) -> Observation:
        self.asked += 1
        lag = 0.0 if self.streaming else None
        answer = Answer(self.in_recovery, self.timeline, Lsn(self.at), lag)
        self.now_asked.set()
        await self.may_answer.wait()
        await asyncio.sleep(0)
        return Observation("lhr", self.asked, None if self.silent else answer)


def watcher_of(replica: Replica) -> ReplayWatcher:
    return ReplayWatcher(replica.ask, publish=lambda _seen: None)


async def test_r02_a_position_reached_between_the_question_and_the_registration_is_seen() -> None:
    replica = Replica(at=5)
    watcher = watcher_of(replica)
    async with watcher.running(), asyncio.timeout(5):
        first = asyncio.create_task(watcher.wait(1, Lsn(7)))
        replica.may_answer.clear()
        await replica.now_asked.wait()
        # The question is under way and will be answered with 5. The replica reaches 9, which
        # it never leaves, and only then somebody asks for it.
        replica.at = 9
        second = asyncio.create_task(watcher.wait(1, Lsn(9)))
        await asyncio.sleep(0)
        assert watcher.waiting == 2
        replica.may_answer.set()
        await asyncio.gather(first, second)
        assert watcher.waiting == 0


@given(
    wanted=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 12)), min_size=1, max_size=8),
    steps=st.lists(st.integers(0, 4), min_size=1, max_size=6),
)
def test_r02_no_order_of_arrivals_and_answers_leaves_anybody_waiting(
    wanted: list[tuple[int, int]], steps: list[int]
) -> None:
    async def run() -> None:
        replica = Replica()
        watcher = watcher_of(replica)

        async def client(turns: int, position: int) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            await watcher.wait(1, Lsn(position))
            assert replica.at >= position

        async def advance() -> None:
            for step in steps:
                await asyncio.sleep(0)
                replica.at += step
            replica.at = 12

        async with watcher.running(), asyncio.timeout(5):
            await asyncio.gather(advance(), *(client(*one) for one in wanted))
            assert watcher.waiting == 0

    asyncio.run(run())


async def test_only_who_was_not_served_by_the_first_question_has_waited() -> None:
    replica = Replica(at=5)
    watcher = watcher_of(replica)
    async with watcher.running(), asyncio.timeout(5):
        assert await watcher.wait(1, Lsn(5)) is False
        late = asyncio.create_task(watcher.wait(1, Lsn(6)))
        asked = replica.asked
        await wait_until(lambda: replica.asked > asked + 2, timeout=SOON, waiting_for="questions")
        replica.at = 6
        assert await late is True


async def test_r03_a_wait_that_was_cancelled_leaves_nothing_registered_or_asked() -> None:
    replica = Replica()
    watcher = watcher_of(replica)
    async with watcher.running():
        tasks = [asyncio.create_task(watcher.wait(1, Lsn(9))) for _ in range(3)]
        await wait_until(lambda: replica.asked > 1, timeout=SOON, waiting_for="questions")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert watcher.waiting == 0
        counts: list[int] = []

        def rests() -> bool:
            counts.append(replica.asked)
            return len(counts) > 1 and counts[-1] == counts[-2]

        await wait_until(rests, timeout=SOON, waiting_for="the watcher to rest")


async def test_nobody_is_asked_while_nobody_waits() -> None:
    replica = Replica()
    async with watcher_of(replica).running():
        for _ in range(20):
            await asyncio.sleep(0)
    assert replica.asked == 0


async def test_a_hundred_who_wait_are_served_by_one_question_at_a_time() -> None:
    replica = Replica()
    watcher = watcher_of(replica)
    async with watcher.running(), asyncio.timeout(5):
        tasks = [asyncio.create_task(watcher.wait(1, Lsn(one))) for one in range(1, 101)]
        await replica.now_asked.wait()
        replica.at = 100
        await asyncio.gather(*tasks)
    assert replica.asked < 10


@pytest.mark.parametrize(
    "change",
    [{"timeline": 2}, {"streaming": False}, {"in_recovery": False}, {"silent": True}],
    ids=lambda change: next(iter(change)),
)
async def test_a_wait_ends_at_once_when_it_can_no_longer_come_true(
    change: dict[str, object],
) -> None:
    replica = Replica()
    watcher = watcher_of(replica)
    async with watcher.running(), asyncio.timeout(5):
        task = asyncio.create_task(watcher.wait(1, Lsn(9)))
        await replica.now_asked.wait()
        for name, value in change.items():
            setattr(replica, name, value)
        await task
        assert replica.at < 9


async def test_the_end_of_the_watcher_wakes_who_still_waits() -> None:
    replica = Replica()
    watcher = watcher_of(replica)
    async with asyncio.timeout(5):
        async with watcher.running():
            task = asyncio.create_task(watcher.wait(1, Lsn(9)))
            await replica.now_asked.wait()
        await task


async def test_a_replica_that_stands_is_asked_less_and_less_often() -> None:
    replica = Replica()
    watcher = watcher_of(replica)
    moments: list[float] = []
    loop = asyncio.get_running_loop()

    def note(_seen: Observation) -> None:
        moments.append(loop.time())

    watcher = ReplayWatcher(replica.ask, publish=note)
    async with watcher.running():
        task = asyncio.create_task(watcher.wait(1, Lsn(9)))
        await wait_until(lambda: len(moments) > 8, timeout=SOON, waiting_for="nine questions")
        task.cancel()
    gaps = [after - before for before, after in pairwise(moments)]
    assert min(gaps[5:]) >= 0.0025
