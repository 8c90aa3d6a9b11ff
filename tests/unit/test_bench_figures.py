from __future__ import annotations

from dataclasses import replace

import pytest
from bench.figures import (
    Effort,
    Measured,
    Quantiles,
    Seen,
    State,
    judge_at_most,
    judge_reads,
    ratio,
)

NO_WRITES = Quantiles(0, None, None, None, None)
CALM = Effort(elapsed_s=20, cpu_s=2, delay_ms=0.1)


def measured(p50_ms: float, region: str, *, count: int = 1000) -> Measured:
    reads = Quantiles(count, p50_ms, 2 * p50_ms, 3 * p50_ms, 4 * p50_ms)
    seen = Seen(reads, NO_WRITES, {region: count}, {}, failed=0, dropped=0)
    return Measured(1000, region, seen, k6=CALM, hub=CALM, idle=0.6)


NEAR, FAR = measured(8, "lhr"), measured(85, "iad")


def test_ten_times_lower_is_kept_and_less_is_broken() -> None:
    assert judge_reads(NEAR, FAR, least=10).state is State.KEPT
    assert judge_reads(NEAR, measured(80, "iad"), least=10).state is State.KEPT
    broken = judge_reads(NEAR, measured(79.2, "iad"), least=10)
    assert broken.state is State.BROKEN
    assert broken.reasons == ("9.9 times, and 10 were promised",)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (replace(NEAR, seen=replace(NEAR.seen, dropped=2)), "k6 dropped 2 of 1000 requests"),
        (measured(8, "lhr", count=980), "k6 sent 980 of 1000 requests"),
        (replace(NEAR, seen=replace(NEAR.seen, failed=11)), "11 of 1000 requests failed"),
        (
            replace(NEAR, seen=replace(NEAR.seen, read_by={"lhr": 900, "iad": 100})),
            "lhr answered 900 of 1000 reads",
        ),
        (
            replace(NEAR, k6=Effort(20, 2, 1.5)),
            "k6 was starved: each time 1.5 ms for a CPU",
        ),
        (
            replace(NEAR, hub=Effort(20, 2, 3)),
            "the network was starved: each time 3.0 ms for a CPU",
        ),
        (replace(NEAR, idle=0.04), "this machine had only 4% of its CPUs left"),
        (
            replace(NEAR, hub=Effort(20, 2, None)),
            "the kernel does not tell how long the network waited for a CPU",
        ),
    ],
)
def test_what_was_not_measured_is_unknown_however_good_its_figures(
    bad: Measured, reason: str
) -> None:
    verdict = judge_reads(bad, FAR, least=10)
    assert verdict.state is State.UNKNOWN
    assert verdict.reasons == (f"A: {reason}",)


def test_a_doubt_about_the_far_arm_is_a_doubt_about_the_ratio() -> None:
    starved = replace(FAR, k6=Effort(20, 2, 9))
    assert judge_reads(NEAR, starved, least=10).state is State.UNKNOWN


def test_one_late_request_in_a_thousand_is_no_doubt() -> None:
    seen = replace(NEAR.seen, dropped=1, failed=10)
    assert replace(NEAR, seen=seen).doubts() == ()


def test_arms_without_reads_have_no_ratio() -> None:
    assert ratio(None, 8) is None
    assert ratio(85, None) is None
    assert ratio(85, 0) is None
    nothing = replace(NEAR, asked=0, seen=Seen(NO_WRITES, NO_WRITES, {}, {}, 0, 0))
    assert judge_reads(nothing, FAR, least=10).reasons == ("there were no reads",)


def test_an_aim_is_missed_only_above_it() -> None:
    assert judge_at_most(25, 25).state is State.KEPT
    assert judge_at_most(30, 25).reasons == ("1.20 times what is aimed at",)


def test_effort_is_told_in_cores() -> None:
    assert Effort(elapsed_s=20, cpu_s=5, delay_ms=None).share == 0.25
    assert Effort(elapsed_s=0, cpu_s=0, delay_ms=None).share == 0
