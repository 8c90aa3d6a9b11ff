"""How many machines a load asks for: up at once, down late, and never for what was not seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from viral_engine.operations.scaling import Decision, Limits, Policy, Sample, decide

LIMITS = Limits(floor=2, ceiling=10, soft_limit=100)
POLICY = Policy(target=0.5, slack=0.2, cooldown_s=60, low_for_s=300)
EVERY = 15.0


class Region:
    """A region that is looked at every 15 s; what is decided is so at the next look."""

    def __init__(self, running: int, limits: Limits = LIMITS, policy: Policy = POLICY) -> None:
        self.running, self.limits, self.policy = running, limits, policy
        self.history: list[Sample] = []
        self.now = 0.0
        self.changed_at: float | None = None
        self.numbers: list[int] = []

    def look(self, load: float, *, complete: bool = True) -> Decision:
        self.now += EVERY
        self.history.append(Sample(self.now, load, complete))
        found = decide(
            self.history, self.running, self.limits, self.policy, now=self.now,
            changed_at=self.changed_at,
        )  # fmt: skip
        if found.target != self.running:
            self.running, self.changed_at = found.target, self.now
            self.numbers.append(found.target)
        return found


def test_a_ramp_is_followed_up_within_a_cooldown_and_down_after_it_was_low_for_long() -> None:
    region = Region(2)
    for load in range(0, 301, 10):
        region.look(load)
    assert region.numbers == sorted(region.numbers)
    assert region.running == 6
    top = region.now
    while region.running > 2:
        region.look(10)
        assert region.now < top + 2 * POLICY.low_for_s
    assert region.now > top + POLICY.low_for_s
    assert region.numbers[-1] == 2


def test_a_load_that_flaps_gets_machines_for_its_peaks_and_keeps_them() -> None:
    region = Region(2)
    for turn in range(200):
        region.look(240 if turn % 2 else 20)
    assert region.numbers == [5]


def test_a_load_at_the_edge_of_a_machine_less_moves_nothing() -> None:
    region = Region(4)
    for turn in range(200):
        region.look(151 if turn % 2 else 149)
    assert region.numbers == []


def test_what_is_not_measured_never_takes_a_machine_away() -> None:
    region = Region(6)
    for _ in range(100):
        assert region.look(0, complete=False).target == 6
    for turn in range(100):
        region.look(0, complete=turn % 10 != 0)
    assert region.numbers == []


def test_what_is_measured_in_part_asks_for_more_where_that_alone_is_too_much() -> None:
    assert Region(2).look(260, complete=False).target == 6


def test_nothing_is_taken_away_before_it_was_watched_for_long_enough() -> None:
    region = Region(6)
    found = region.look(0)
    assert found == Decision(6, "not yet watched for 300 s")
    while region.running == 6:
        region.look(0)
    assert region.now > POLICY.low_for_s


def test_one_look_that_lasted_as_long_as_is_asked_for_is_enough() -> None:
    policy = replace(POLICY, low_for_s=120)
    for over_s, target in ((119.0, 6), (120.0, 2)):
        looked = [Sample(1000.0, 10.0, over_s=over_s)]
        assert decide(looked, 6, LIMITS, policy, now=1000.0).target == target


def test_zero_machines_are_only_where_they_are_declared_and_only_without_any_load() -> None:
    to_zero = replace(LIMITS, floor=0)
    for load, end in ((0.0, 0), (0.001, 1)):
        region = Region(3, to_zero, replace(POLICY, headroom=0))
        for _ in range(60):
            region.look(load)
        assert region.running == end
    asleep = Region(0, to_zero)
    assert asleep.look(0.2) == Decision(1, "0.2 at once came in there and were served elsewhere")
    spare = Region(3, to_zero, replace(POLICY, headroom=1))
    for _ in range(60):
        spare.look(0.0)
    assert spare.running == 0


def test_headroom_runs_beyond_what_the_load_needs() -> None:
    assert Region(2, policy=replace(POLICY, headroom=2)).look(150).target == 5


def test_outside_the_limits_it_is_put_right_at_once() -> None:
    for running, target in ((1, 2), (12, 10)):
        found = decide([], running, LIMITS, POLICY, now=1.0, changed_at=1.0)
        assert found.target == target


loads = st.floats(0, 5000, allow_nan=False)
samples = st.lists(st.tuples(loads, st.booleans()), max_size=30)
limits = st.builds(
    lambda floor, more, soft: Limits(floor, floor + more, soft),
    st.integers(0, 5), st.integers(0, 20), st.integers(1, 500),
)  # fmt: skip
policies = st.builds(
    Policy, target=st.floats(0.1, 1), slack=st.floats(0, 0.5), headroom=st.integers(0, 3),
    cooldown_s=st.floats(0, 120), low_for_s=st.floats(0, 300),
)  # fmt: skip
running = st.integers(0, 30)


def history(given_: list[tuple[float, bool]], times: float = 1.0) -> list[Sample]:
    return [Sample(EVERY * n, load * times, seen) for n, (load, seen) in enumerate(given_, start=1)]


@given(samples, running, limits, policies)
def test_it_is_never_below_the_floor_and_never_above_the_ceiling(
    given_: list[tuple[float, bool]], running: int, limits: Limits, policy: Policy
) -> None:
    found = decide(history(given_), running, limits, policy, now=EVERY * len(given_))
    assert limits.floor <= found.target <= limits.ceiling


@given(samples, running, limits, policies, st.floats(1, 10))
def test_more_load_never_asks_for_fewer_machines(
    given_: list[tuple[float, bool]], running: int, limits: Limits, policy: Policy, times: float
) -> None:
    now = EVERY * len(given_)
    less = decide(history(given_), running, limits, policy, now=now)
    more = decide(history(given_, times), running, limits, policy, now=now)
    assert more.target >= less.target


@given(samples, running, limits, policies, st.floats(0, 0.99))
def test_nothing_is_done_within_the_cooldown(
    given_: list[tuple[float, bool]], running: int, limits: Limits, policy: Policy, share: float
) -> None:
    within = min(max(running, limits.floor), limits.ceiling)
    policy = replace(policy, cooldown_s=policy.cooldown_s + 1)
    changed_at = 1000.0 - share * policy.cooldown_s
    found = decide(history(given_), within, limits, policy, now=1000.0, changed_at=changed_at)
    assert found.target == within


@given(samples, running, limits, policies)
def test_a_look_that_did_not_see_everything_never_takes_a_machine_away(
    given_: list[tuple[float, bool]], running: int, limits: Limits, policy: Policy
) -> None:
    assume(running <= limits.ceiling)
    unseen = [*given_, (0.0, False)]
    found = decide(history(unseen), running, limits, policy, now=EVERY * len(unseen))
    assert found.target >= running


@given(loads, running, limits, policies)
def test_what_was_decided_is_left_alone_while_the_load_stays(
    load: float, running: int, limits: Limits, policy: Policy
) -> None:
    region = Region(running, limits, policy)
    for _ in range(60):
        region.look(load)
    assert len(region.numbers) <= 2
    before = list(region.numbers)
    for _ in range(60):
        region.look(load)
    assert region.numbers == before


def test_words_tell_the_load_and_what_it_is_of_the_soft_limits() -> None:
    assert Region(2).look(150).reason == "150.0 at once, 75% of the soft limits"


@pytest.mark.parametrize("load", [0.0, 10.0])
def test_without_a_look_nothing_is_changed(load: float) -> None:
    assert decide([], 3, LIMITS, POLICY, now=load).target == 3
