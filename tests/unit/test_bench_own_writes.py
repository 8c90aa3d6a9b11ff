from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
from bench.consistency import ALONE, CONTROL, NEARBY, OURS, Found, Plan
from bench.consistency_report import outcome, promises, stale
from bench.figures import Effort, State
from bench.own_writes import Keeps, ReadOf, Tally, losses_in, read_of
from bench.wire import Answer

JSON = {b"content-type": b"application/json"}
PROBLEM = {b"content-type": b"application/problem+json"}
CALM = Effort(elapsed_s=30, cpu_s=3, delay_ms=0.1)


def item(title: str) -> Answer:
    return Answer(200, JSON, json.dumps({"id": 1, "title": title, "region": "lhr"}).encode())


def problem(status: int, code: str) -> Answer:
    return Answer(status, PROBLEM, json.dumps({"type": f"urn:viral:problem:{code}"}).encode())


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (item("mine"), ReadOf.SEEN),
        (item("older"), ReadOf.STALE),
        (Answer(404, JSON, b'{"detail": "Not Found"}'), ReadOf.STALE),
        (problem(404, "not-found"), ReadOf.STALE),
        (problem(503, "no-primary"), ReadOf.UNAVAILABLE),
        (Answer(502, {}, b"upstream connect error"), ReadOf.UNAVAILABLE),
    ],
)
def test_absent_and_older_are_stale_and_only_the_truth_about_a_loss_is_not(
    answer: Answer, found: ReadOf
) -> None:
    assert read_of(answer, "mine") is found


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ("write-lost", ReadOf.TOLD_LOST),
        ("write-unknown", ReadOf.TOLD_LOST),
        ("read-lost", ReadOf.STALE),  # its own last write is kept, it was told
        ("", ReadOf.STALE),
    ],
)
def test_a_client_that_was_told_of_its_loss_has_not_read_a_stale_value(
    told: str, found: ReadOf
) -> None:
    answer = Answer(404, {**JSON, b"viral-session-lost": told.encode()}, b"{}")
    assert read_of(answer, "mine", losses_in(answer)) is found
    assert read_of(item("mine"), "mine", losses_in(answer)) is ReadOf.SEEN


def test_a_client_carries_its_token_as_a_header_and_other_cookies_as_cookies() -> None:
    keeps = Keeps()
    assert keeps.headers() == []
    keeps.learn(Answer(201, {b"viral-session": b"t1", b"set-cookie": b"viral-session=t1"}, b""))
    keeps.learn(Answer(201, {b"set-cookie": b"viral-session-wrote=t1"}, b""))
    keeps.learn(Answer(201, {b"set-cookie": b"written-at=12.5; Max-Age=5; Path=/"}, b""))
    keeps.learn(Answer(200, {}, b""))
    assert keeps.headers() == [("viral-session", "t1"), ("cookie", "written-at=12.5")]


def test_an_answer_that_tells_its_wait_is_counted_by_its_route_without_the_figure() -> None:
    tally = Tally()
    route = b"wait; reason=replica-behind; waited=0.0021"
    tally.read(Answer(200, {b"viral-route": route}, item("a").body), ReadOf.SEEN, 0.004)
    assert tally.routes == {"wait replica-behind": 1}
    assert tally.waited_ms == [pytest.approx(2.1)]
    assert tally.read_ms == {"wait": [4.0]}


def tally(*, stale: int = 0, write_ms: float = 80.0, local: int = 300) -> Tally:
    found = Tally(reads=Counter({ReadOf.SEEN: 300 - stale, ReadOf.STALE: stale}))
    found.read_by = Counter({"lhr": local, "iad": 300 - local})
    found.write_ms, found.read_ms = [write_ms] * 300, {"local": [5.0] * 300}
    found.routes = Counter({"local replica": 300})
    return found


def found(ours: Tally, control: Tally, *, idle: float = 0.5) -> Found:
    near = tally(write_ms=10.0)
    plan = Plan(arms=(OURS, CONTROL))
    return Found(plan, 78.0, {OURS: ours, CONTROL: control, NEARBY: near}, idle, CALM)


def test_no_stale_read_is_kept_only_where_the_control_arm_had_some() -> None:
    assert stale(found(tally(), tally(stale=4))).state is State.KEPT
    assert stale(found(tally(), tally())).state is State.UNKNOWN
    assert stale(found(tally(stale=1), tally())).state is State.BROKEN


def test_one_stale_read_breaks_it_on_a_starved_machine_too_and_times_are_unknown_there() -> None:
    starved = found(tally(stale=1), tally(stale=4), idle=0.02)
    states = [one.verdict.state for one in promises(starved)]
    assert states == [State.BROKEN, State.KEPT, State.UNKNOWN, State.UNKNOWN]
    assert "5.0 ms" not in "\n".join(outcome(starved).table)


def test_a_write_is_held_against_one_round_trip_and_the_same_write_at_home() -> None:
    kept = promises(found(tally(write_ms=101), tally(stale=1)))[2]
    broken = promises(found(tally(write_ms=102), tally(stale=1)))[2]
    assert (kept.verdict.state, broken.verdict.state) == (State.KEPT, State.BROKEN)


def test_too_few_waits_have_no_99th_percentile_and_do_not_decide() -> None:
    told = outcome(found(tally(), tally(stale=1)))
    assert told.promises[3].verdict.state is State.UNKNOWN
    assert told.promises[3].is_aim
    assert told.kept


def test_reads_that_waited_for_nothing_count_in_what_all_of_them_waited() -> None:
    raced = replace(tally(), waited_ms=[*[4.0] * 98, 9.0, 9.0])
    seen = found(tally(), tally(stale=1))
    told = outcome(replace(seen, tallies={**seen.tallies, ALONE: raced}))
    line = "reads that raced their write: 300; 100 waited, p50 4.0 ms; p99 of all 4.0 ms"
    assert line in told.table
    assert told.promises[3].verdict.state is State.BROKEN  # those that waited are judged alone
