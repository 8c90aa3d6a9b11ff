"""Clocks, deadlines, and waits that end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from viral_engine.clock import SYSTEM_CLOCK, Deadline, NotYet, wait_until
from viral_engine.errors import WaitTimeoutError

SOON = timedelta(milliseconds=30)
LONG = timedelta(seconds=20)
STEP = timedelta(milliseconds=1)


@dataclass
class HeldClock:
    seconds: float = 100.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds


def test_the_system_clock_is_aware_and_in_utc() -> None:
    assert SYSTEM_CLOCK.now().utcoffset() == timedelta(0)
    assert SYSTEM_CLOCK.monotonic() <= SYSTEM_CLOCK.monotonic()


def test_a_deadline_counts_down_on_its_own_clock_and_stops_at_zero() -> None:
    clock = HeldClock()
    deadline = Deadline.after(timedelta(seconds=3), clock)
    clock.seconds += 1
    assert deadline.remaining() == timedelta(seconds=2)
    assert not deadline.passed()
    clock.seconds += 5
    assert deadline.remaining() == timedelta(0)
    assert deadline.passed()


async def test_the_first_value_ends_the_wait_and_is_returned() -> None:
    answers = iter([None, False, NotYet("nearly"), 0])
    got = await wait_until(lambda: next(answers), timeout=LONG, waiting_for="zero", interval=STEP)
    assert got == 0


async def test_a_condition_may_be_a_coroutine() -> None:
    async def condition() -> str | NotYet:
        await asyncio.sleep(0)
        return "there"

    assert await wait_until(condition, timeout=LONG, waiting_for="it") == "there"


async def test_the_error_names_what_was_waited_for_and_what_was_last_seen() -> None:
    with pytest.raises(WaitTimeoutError) as caught:
        await wait_until(
            lambda: NotYet("2 of 3 are up"),
            timeout=SOON,
            waiting_for="all members of etcd",
            interval=STEP,
        )
    assert caught.value.message == (
        "waited 0.03 s for all members of etcd; last seen: 2 of 3 are up"
    )


async def test_a_condition_that_hangs_does_not_outlive_the_bound() -> None:
    async def condition() -> bool:
        return await asyncio.Event().wait()

    with pytest.raises(WaitTimeoutError, match=r"waited 0\.03 s for a sign$"):
        await wait_until(condition, timeout=SOON, waiting_for="a sign")


async def test_a_condition_is_asked_once_even_without_any_time() -> None:
    assert await wait_until(lambda: True, timeout=timedelta(0), waiting_for="nothing")


async def test_what_a_condition_raises_ends_the_wait_at_once() -> None:
    def condition() -> None:
        msg = "its own"
        raise TimeoutError(msg)

    with pytest.raises(TimeoutError, match="its own"):
        await wait_until(condition, timeout=LONG, waiting_for="never")
