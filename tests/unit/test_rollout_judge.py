"""What a bake is ruled, over counts."""

from __future__ import annotations

import math

import pytest

from viral_engine.observe.requests import RequestCounts, RequestFigures
from viral_engine.operations.rollout import Before, Objective, Verdict, judge
from viral_engine.operations.rollout.judge import chance

OLD = Before(answered=100_000, failed=10, p95_ms=40.0)


def answered(good: int, failed: int = 0, *, ms: float = 20.0) -> RequestFigures:
    counts = RequestCounts("a")
    for number in range(good + failed):
        counts.answer(500 if number < failed else 200, ms / 1000)
    return counts.figures()


def verdict(new: RequestFigures, old: Before = OLD, *, over: bool = True, **more: bool) -> str:
    ruling = judge(new, old, Objective(), over=over, **more)
    return "bakes" if ruling is None else f"{ruling.verdict.value}: {ruling.reason}"


def test_a_good_version_goes_once_its_bake_is_over() -> None:
    assert verdict(answered(1000), over=False) == "bakes"
    assert verdict(answered(1000)) == "go: 0 of 1000 requests failed, p95 22 ms"
    assert verdict(answered(5000, 2)).startswith("go")


@pytest.mark.parametrize(("good", "failed"), [(0, 3), (10, 3), (100, 8), (1000, 25)])
def test_what_no_chance_explains_goes_back_before_the_bake_is_over(good: int, failed: int) -> None:
    assert verdict(answered(good, failed), over=False).startswith("roll back")


@pytest.mark.parametrize(("good", "failed"), [(0, 2), (500, 5), (500, 8), (1000, 15)])
def test_what_may_be_chance_is_waited_for(good: int, failed: int) -> None:
    assert verdict(answered(good, failed), over=False) == "bakes"


def test_too_few_requests_are_unknown_unless_silence_counts_as_good() -> None:
    said = verdict(answered(99))
    assert said == "unknown: 99 requests are too few to judge by: 100 are needed"
    assert verdict(answered(99), quiet_is_well=True).startswith("go")
    assert verdict(answered(0), quiet_is_well=True).startswith("go")
    assert verdict(answered(1, 3), quiet_is_well=True).startswith("roll back")


def test_two_failures_prove_nothing_at_the_end_either() -> None:
    assert verdict(answered(148, 2)).startswith("go")
    assert verdict(answered(147, 3)).startswith("roll back")


def test_a_broken_objective_goes_back_at_the_end() -> None:
    assert "more than 0.01 of all" in verdict(answered(985, 15))
    assert verdict(answered(500, ms=700)) == "roll back: p95 is 709 ms, above 500 ms"
    slow = judge(answered(500, ms=700), Before(), Objective(max_p95_ms=None), over=True)
    assert slow is not None
    assert slow.verdict is Verdict.GO


def test_what_keeps_the_objective_and_is_worse_than_before_goes_back() -> None:
    assert "of the old version's 100000 only 10" in verdict(answered(9970, 30))
    assert verdict(answered(9970, 30), Before(100_000, 300, 40.0)).startswith("go")
    assert "and was 40 ms" in verdict(answered(1000, ms=200))
    assert verdict(answered(1000, ms=200), Before(100_000, 0, 180.0)).startswith("go")


def test_an_old_version_of_which_little_is_known_is_compared_with_nobody() -> None:
    assert verdict(answered(9970, 30), Before(50, 0, 1.0)).startswith("go")


def test_the_chance_of_failures_is_poissons() -> None:
    assert chance(0, 5.0) == pytest.approx(1.0)
    assert chance(1, 2.0) == pytest.approx(1 - math.exp(-2))
    assert chance(3, 0.1) == pytest.approx(0.000154653, rel=1e-4)
    assert chance(5000, 5000.0) == pytest.approx(0.5, abs=0.01)
    assert (chance(0, 0.0), chance(1, 0.0)) == (1.0, 0.0)


def test_what_was_before_is_added_with_the_p95_of_the_slower() -> None:
    both = Before(10, 1, 5.0) + Before(20, 2, None) + Before(1, 0, 9.0)
    assert both == Before(31, 3, 9.0)
