from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count

from viral_engine.cluster.view import Answer, Observation
from viral_engine.lsn import Lsn

__all__ = ["ReplayWatcher"]

FIRST_DELAY_S = 0.001
LONGEST_DELAY_S = 0.003

_Waiter = tuple[Lsn, int, "asyncio.Future[int]"]


class ReplayWatcher:
    """Wakes those who wait for a replica to replay a position, by one question for all of them.

    It asks only while somebody waits: every 1 ms while the replica advances, up to every 3 ms
    while it stands. Whoever comes is registered first and the replica is asked after that, so a
    position that was reached in between is not missed.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[Observation]],
        *,
        publish: Callable[[Observation], None],
    ) -> None:
        self._ask = ask
        self._publish = publish
        self._waiters: dict[int, list[_Waiter]] = {}
        self._order = count()
        self._asked = 0
        self._wanted = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return sum(map(len, self._waiters.values()))

    async def wait(self, timeline: int, lsn: Lsn) -> bool:
        """Return once the replica was seen at ``lsn`` of ``timeline``, or where it never gets there.

        That is: when it is gone, promoted, on another timeline, or receives nothing. The caller
        bounds the wait and looks at what was published. True when it was not so at the first
        question that was asked from now on.
        """
        first = self._asked + 1
        reached: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        waiter = (lsn, next(self._order), reached)
        heapq.heappush(self._waiters.setdefault(timeline, []), waiter)
        self._wanted.set()
        try:
            return await reached > first
        finally:
            self._forget(timeline, waiter)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch while the block runs, as ``run``."""
        task = asyncio.create_task(self.run(), name="watch replay")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def run(self) -> None:
        """Watch until cancelled; whoever still waits then is woken."""
        try:
            await self._watch()
        finally:
            self._settle(None)

    async def _watch(self) -> None:
        delay, before = FIRST_DELAY_S, None
        while True:
            if not self._waiters:
                self._wanted.clear()
                await self._wanted.wait()
                delay = FIRST_DELAY_S
            self._asked += 1
            seen = await self._ask()
            if seen.answer is not None:
                self._publish(seen)
            self._settle(seen.answer)
            advanced = seen.answer is not None and seen.answer.lsn != before
            before = seen.answer and seen.answer.lsn
            delay = FIRST_DELAY_S if advanced else min(2 * delay, LONGEST_DELAY_S)
            self._wanted.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wanted.wait()

    def _settle(self, answer: Answer | None) -> None:
        for timeline in list(self._waiters):
            queue = self._waiters[timeline]
            while queue and (
                answer is None
                or not (answer.in_recovery and answer.streaming)
                or answer.timeline != timeline
                or queue[0][0] <= answer.lsn
            ):
                self._wake(heapq.heappop(queue))
            if not queue:
                del self._waiters[timeline]

    def _wake(self, waiter: _Waiter) -> None:
        if not waiter[2].done():
            waiter[2].set_result(self._asked)

    def _forget(self, timeline: int, waiter: _Waiter) -> None:
        queue = self._waiters.get(timeline, [])
        if waiter in queue:
            queue.remove(waiter)
            heapq.heapify(queue)
            if not queue:
                del self._waiters[timeline]
