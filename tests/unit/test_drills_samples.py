"""Figures of a drill are exact, and nothing that was never sent or never answered is left out."""

from __future__ import annotations

import json
from dataclasses import replace
from math import isinf

import pytest
from tests.unit.drills_samples import steady, write

from viral_engine.operations.drills.figures import requests_of
from viral_engine.operations.drills.samples import (
    MIX,
    READ,
    WRITE,
    Sample,
    Window,
    failed_share,
    gap_around,
    longest_gap,
    quantile_ms,
    read_samples,
    reasons,
    set_apart,
    time_to_write,
    with_dropped,
)

FAULT = Window(10, 20)


def line(slot: int, *, sent: float, ended: float, ok: bool = True, began: int = 1000) -> str:
    return json.dumps(
        {"began": began, "slot": slot, "kind": MIX[slot % len(MIX)], "sent": sent, "ended": ended,
         "ok": ok, "status": 200 if ok else 0, "reason": "", "served": "iad", "edge": "iad", "retried": False,
         "at_last": ok, "name": ""}
    )  # fmt: skip


def test_a_request_counts_from_when_it_was_due_and_not_from_when_it_was_sent() -> None:
    late = line(20, sent=2500, ended=2600)
    (found,) = read_samples([late], region="iad", rate=10, zero_ms=500)
    assert (found.due, found.ended) == (2.5, 3.1)
    assert found.latency_ms == pytest.approx(600)


def test_one_that_began_late_is_not_taken_for_the_next_and_no_slot_is_called_dropped() -> None:
    # The second was due at 0.1 s, and counts itself to the slot of the third.
    lines = [line(0, sent=10, ended=20), line(2, sent=155, ended=160), line(2, sent=201, ended=220)]
    seen = read_samples(reversed(lines), region="iad", rate=10, zero_ms=1000)
    assert [(one.due, one.ended) for one in seen] == [(0, 0.02), (0.1, 0.16), (0.2, 0.22)]
    found = with_dropped(seen, region="iad", rate=10, seconds=0.3)
    assert not any(one.dropped for one in found)


def test_a_line_that_was_cut_short_is_passed_over() -> None:
    whole = line(0, sent=1, ended=2)
    assert len(read_samples([whole, whole[:40], ""], region="iad", rate=10, zero_ms=0)) == 1


def test_a_slot_for_which_nobody_was_free_is_a_failure_of_its_kind_at_its_time() -> None:
    lines = [line(slot, sent=slot * 100, ended=slot * 100 + 5) for slot in range(20) if slot != 11]
    seen = read_samples(lines, region="iad", rate=10, zero_ms=1000)
    found = with_dropped(seen, region="iad", rate=10, seconds=2)
    assert len(found) == 20
    (dropped,) = [one for one in found if one.dropped]
    assert (dropped.kind, dropped.failed) == (MIX[1], True)
    assert dropped.due == pytest.approx(1.1)
    assert reasons(found) == {"dropped": 1}
    assert failed_share(found) == 1 / 20


def test_a_load_that_never_began_is_dropped_whole() -> None:
    found = with_dropped([], region="iad", rate=10, seconds=2)
    assert [one.dropped for one in found] == [True] * 20


def test_quantiles_are_those_of_the_answers_by_rank() -> None:
    answers = [write(number, took=number / 1000) for number in range(1, 101)]
    assert [quantile_ms(answers, share) for share in (0.5, 0.95, 0.99, 1)] == [50, 95, 99, 100]
    assert quantile_ms([], 0.5) is None


def test_a_gap_lies_between_two_answers_and_one_without_an_end_lasts_to_the_end() -> None:
    samples = steady(30, without=(12, 17))
    gap = gap_around(samples, FAULT, until=30)
    assert gap is not None
    assert gap.seconds == pytest.approx(5.5)
    assert longest_gap(steady(30, without=(12, 99)), until=30) == pytest.approx(18.4)
    assert longest_gap([], until=30) is None


def test_a_gap_reaches_from_the_beginning_where_nothing_succeeded_before() -> None:
    never = [write(float(n), ok=False) for n in range(30)]
    gap = gap_around(never, FAULT, until=30)
    assert gap is not None
    assert gap.seconds == 30
    late = [
        *(write(float(n), ok=False) for n in range(14)),
        *(write(float(n)) for n in range(14, 30)),
    ]
    gap = gap_around(late, FAULT, until=30)
    assert gap is not None
    assert gap.seconds == pytest.approx(14.1)
    assert gap_around([], FAULT, until=30) is None


def test_a_gap_that_was_over_before_the_fault_is_not_its_gap() -> None:
    gap = gap_around(steady(30, without=(2, 8)), FAULT, until=30)
    assert gap is not None
    assert gap.seconds == pytest.approx(0.5)


def test_the_time_to_write_runs_from_the_first_held_write_to_the_first_that_succeeded() -> None:
    held = [write(12 + n / 2, took=4.2 - n / 2) for n in range(8)]
    samples = [*steady(30, without=(12, 16)), *held]
    assert time_to_write(samples, FAULT, until=30) == pytest.approx(4.1)


def test_the_time_to_write_runs_from_the_first_failed_write() -> None:
    failed = [write(12.2 + n / 2, took=0.01, ok=False) for n in range(6)]
    samples = [*steady(30, without=(12, 16)), *failed]
    assert time_to_write(samples, FAULT, until=30) == pytest.approx(16.1 - 12.2)


def test_without_a_failed_or_held_write_there_is_no_time_to_write() -> None:
    assert time_to_write(steady(30), FAULT, until=30) is None


def test_writes_that_never_succeed_again_take_for_ever() -> None:
    failed = [write(12.2 + n / 2, ok=False) for n in range(30)]
    found = time_to_write([*steady(12), *failed], FAULT, until=30)
    assert found is not None
    assert isinf(found)


def apart(sample: Sample, *, lost: str = "", cut_off: str = "") -> bool:
    regions = [frozenset({one} - {""}) for one in (lost, cut_off)]
    (found,) = set_apart([sample], lost=regions[0], cut_off=regions[1], fault=FAULT)
    return found.apart


def test_only_what_had_no_answer_at_a_lost_edge_while_users_were_led_elsewhere_is_set_apart() -> (
    None
):
    unanswered = write(9.9, took=1, ok=False, failed=0)
    assert apart(unanswered, lost="lhr")
    assert not apart(unanswered, lost="iad")
    assert not apart(replace(unanswered, due=13.6, ended=14), lost="lhr")
    assert not apart(replace(unanswered, ended=9.95), lost="lhr")
    assert apart(replace(unanswered, due=21, ended=21.1), lost="lhr")
    assert not apart(replace(unanswered, due=31.1, ended=31.2), lost="lhr")
    assert not apart(write(10.5, ok=False, failed=503), lost="lhr")
    assert not apart(replace(unanswered, dropped=True, due=11, ended=11), lost="lhr")


@pytest.mark.parametrize(
    ("before", "after", "is_apart"),
    [("iad", "iad", False), ("iad", "lhr", True), ("lhr", "lhr", True), ("iad", "", True)],
)
def test_after_the_fault_it_counts_where_those_around_it_came_by_one_surviving_edge(
    before: str, after: str, *, is_apart: bool
) -> None:
    samples = [
        write(24.0, edge=before), write(24.5, ok=False, failed=0), write(25.0, edge=after),
        write(24.4, region="iad", edge="iad"), write(24.6, region="iad", edge="iad"),
    ]  # fmt: skip
    found = set_apart(samples, lost=frozenset({"lhr"}), cut_off=frozenset(), fault=FAULT)
    assert [one.apart for one in found] == [False, is_apart, False, False, False]


def test_whoever_is_cut_off_with_his_region_is_set_apart_until_it_is_healed() -> None:
    assert apart(write(15, ok=False), cut_off="lhr")
    assert not apart(write(15), cut_off="lhr")
    assert not apart(write(24, ok=False), cut_off="lhr")


def test_the_figures_of_a_window_count_what_was_due_in_it() -> None:
    failed = [write(12 + n, ok=False) for n in range(3)]
    samples = [*steady(30), *failed, *steady(30, kind=READ)]
    reads, writes = requests_of(samples, ["lhr"], window=FAULT, until=30)
    assert (reads.kind, writes.kind) == (READ, WRITE)
    assert (writes.scheduled, writes.ok, writes.failed) == (63, 60, 3)
    assert (writes.window.scheduled, writes.window.failed) == (23, 3)
    assert writes.window.error_rate == pytest.approx(3 / 23, abs=1e-6)
    assert writes.reasons == {"503": 3}
    assert reads.error_rate == 0
