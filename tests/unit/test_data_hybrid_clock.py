"""The hybrid clock: later than all that it saw, whatever the wall clock does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viral_engine.data.hybrid_clock import HybridClock, HybridTime
from viral_engine.errors import ClockAheadError

START_MS = 1_700_000_000_000
TIMES = st.builds(
    HybridTime,
    st.integers(0, 2**48 - 1),
    st.integers(0, 2**16 - 1),
    st.from_regex(r"[A-Za-z0-9._:-]{1,5}", fullmatch=True),
)


class Wall:
    """A wall clock that a test sets as it likes."""

    def __init__(self, ms: int = START_MS) -> None:
        self.ms = ms

    def now(self) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self.ms)

    def monotonic(self) -> float:
        raise AssertionError("a hybrid clock measures nothing")


@given(one=TIMES, other=TIMES)
def test_texts_and_numbers_sort_as_the_times_do(one: HybridTime, other: HybridTime) -> None:
    assert (str(one) < str(other)) == (one < other)
    assert (str(one) == str(other)) == (one == other)
    if one.number != other.number:
        assert (one.number < other.number) == (one < other)


@given(time=TIMES)
def test_a_time_comes_back_from_its_text_and_from_its_number(time: HybridTime) -> None:
    assert HybridTime.parse(str(time)) == time
    assert HybridTime.from_number(time.number, time.node) == time
    assert 0 <= time.number < 2**64


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "0199a3b2c4d5-0001",
        "0199a3b2c4d5-0001-",
        "0199A3B2C4D5-0001-n",
        "0199a3b2c4d5-1-n",
        "0199a3b2c4d5-0001-a b",
        "0199a3b2c4d5-0001-\x00",
        "0199a3b2c4d5-0001-n\n",
        "0199a3b2c4d5-0001-" + "n" * 129,
    ],
)
def test_what_is_no_hybrid_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="hybrid time"):
        HybridTime.parse(text)


@pytest.mark.parametrize("numbers", [(-1, 0), (2**48, 0), (0, -1), (0, 2**16)])
def test_a_time_that_does_not_fit_is_refused(numbers: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="48"):
        HybridTime(*numbers, "n")


@given(
    steps=st.lists(
        st.tuples(st.integers(-4_000_000, 4_000_000), st.none() | st.integers(-9_000, 9_000)),
        max_size=30,
    )
)
def test_every_time_is_later_than_all_given_and_observed_while_the_wall_clock_jumps(
    steps: list[tuple[int, int | None]],
) -> None:
    wall = Wall()
    clock = HybridClock("m", clock=wall, max_ahead=timedelta(seconds=9))
    given_out: list[HybridTime] = [clock.now()]
    for jump_ms, ahead_ms in steps:
        wall.ms += jump_ms
        if ahead_ms is None:
            given_out.append(clock.now())
        else:
            remote = HybridTime(max(0, wall.ms + ahead_ms), 5, "z")
            given_out.append(clock.observe(remote))
            assert given_out[-1] > remote
    assert all(one < other for one, other in pairwise(given_out))


def test_a_time_is_close_to_the_wall_clock_and_counts_within_a_millisecond() -> None:
    wall = Wall()
    clock = HybridClock("m", clock=wall)
    assert clock.now() == HybridTime(START_MS, 0, "m")
    assert clock.now() == HybridTime(START_MS, 1, "m")
    wall.ms += 1
    assert clock.now() == HybridTime(START_MS + 1, 0, "m")
    assert clock.now().wall == wall.now()


def test_a_full_counter_borrows_the_next_millisecond() -> None:
    clock = HybridClock("m", clock=Wall())
    full = HybridTime(START_MS, 2**16 - 1, "z")
    assert clock.observe(full) == HybridTime(START_MS + 1, 0, "m")


def test_a_clock_that_is_an_hour_ahead_is_refused_and_takes_nobody_along() -> None:
    wall = Wall()
    clock = HybridClock("good", clock=wall)
    before = clock.now()
    poison = HybridClock("bad", clock=Wall(START_MS + 3_600_000)).now()
    with pytest.raises(ClockAheadError, match="3600 s ahead of the clock of good; at most 60 s"):
        clock.observe(poison)
    assert clock.now() == HybridTime(START_MS, before.counter + 1, "good")


def test_a_clock_that_is_an_hour_behind_refuses_the_others_and_says_by_how_much() -> None:
    slow = HybridClock("slow", clock=Wall(START_MS - 3_600_000))
    with pytest.raises(ClockAheadError, match="3600 s ahead of the clock of slow"):
        slow.observe(HybridTime(START_MS, 0, "good"))


def test_exactly_the_bound_is_allowed() -> None:
    clock = HybridClock("m", clock=Wall())
    remote = HybridTime(START_MS + 60_000, 0, "z")
    assert clock.observe(remote) == HybridTime(START_MS + 60_000, 1, "m")


def test_two_clocks_that_hear_of_each_other_keep_cause_before_effect() -> None:
    one, other = (
        HybridClock("a", clock=Wall()),
        HybridClock("b", clock=Wall(START_MS - 30_000)),
    )
    seen = [one.now()]
    for _ in range(50):
        seen += [other.observe(seen[-1]), other.now()]
        seen += [one.observe(seen[-1]), one.now()]
    assert seen == sorted(set(seen))
