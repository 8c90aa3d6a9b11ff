"""What a drill reports: from histories written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.unit.drills_histories import cas, read, write

from viral_engine.operations.drills.history import Operation, Outcome
from viral_engine.operations.drills.report import arm_report, primaries_of, write_gap
from viral_engine.operations.drills.sessions import check_nothing_lost, check_sessions
from viral_engine.operations.drills.stories import Mark
from viral_engine.operations.drills.stories_register import (
    BlackHole,
    judge_black_hole,
    stakes_of_black_hole,
)
from viral_engine.operations.drills.stories_sessions import Moves, judge_moves
from viral_engine.operations.drills.verdict import Finding, Ruling, Verdict
from viral_engine.operations.drills.workloads import INITIAL
from viral_engine.operations.drills.workloads_sessions import versions_of

SECOND = 1_000_000_000
FAIL = Outcome.FAIL
LHR = frozenset({"lhr"})


def in_lhr(number: int, called: int, returned: int | None, **more: Any) -> Operation:
    times = called * SECOND, None if returned is None else returned * SECOND
    return write(f"w-{number}", *times, region_asked="lhr", **more)


def test_the_gap_is_from_the_first_failure_to_the_first_success_called_after_it() -> None:
    history = [
        in_lhr(1, 1, 2),
        in_lhr(2, 3, 9),  # called before the failure: it ended, but it does not end the gap
        in_lhr(3, 4, 5, outcome=FAIL),
        in_lhr(4, 6, None, outcome=Outcome.UNKNOWN),
        in_lhr(5, 10, 12),
        in_lhr(6, 11, 13),
        write("i-1", 5 * SECOND, 6 * SECOND, region_asked="iad"),
    ]
    assert write_gap(history, regions=LHR, since=0) == 8.0
    assert write_gap(history, regions=LHR, since=10 * SECOND) is None
    assert write_gap(history[:4], regions=LHR, since=0) is None, "it never ended"


def test_the_primaries_are_those_that_acknowledged_in_the_order_of_their_answers() -> None:
    here: dict[str, Any] = {"route": "local", "reason": "primary-here"}
    history = [
        write(1, 0, 10, region_served="iad", **here),
        write(2, 1, 30, region_served="lhr", **here),
        write(3, 5, 20, region_served="iad", **here),
        write(4, 40, 50, region_served="yyz", outcome=FAIL, **here),
    ]
    assert primaries_of(history) == ["iad", "lhr"]


def test_a_report_counts_by_outcome_and_route_and_is_json(tmp_path: Path) -> None:
    history = [
        read("start", 1, 2, route="wait", reason="replica-behind"),
        read(None, 3, None, reason=""),
        write("w-1", 4, 5, outcome=FAIL, reason="no-primary", told_lost=True),
    ]
    finding = Finding("linearizable", "two were current at once", (history[0],))
    verdict = Verdict(Ruling.BROKEN, (finding,) * 7)
    report = arm_report(
        "arm", verdict, history, at_stake={"reads": 1}, gap=1.25, marks=[Mark(1, "begins")]
    )
    told = json.loads(report.write(tmp_path).read_text())
    assert told["verdict"] == "broken"
    assert told["findings"][0]["operations"] == [1]
    assert told["outcomes"] == {
        "read": {"ok": 1, "unknown": 1},
        "write": {"fail": 1},
    }
    assert told["routes"] == {"wait; reason=replica-behind": 1}
    assert told["refusals"] == {"no answer": 1, "no-primary": 1}
    assert (told["waits"], told["told_lost"], told["write_gap_s"]) == (1, 1, 1.25)
    assert told["marks"] == [{"seconds": 0.0, "what": "begins"}]
    lines = report.lines()
    assert lines[0] == "arm: broken"
    assert lines[-1].endswith("and 2 more")


def black_hole_of(**final: list[Any]) -> BlackHole:
    return BlackHole("iad", cut_at=100, written_at=150, healed_at=200, final=final)


def test_a_stale_read_in_the_lost_region_breaks_the_black_hole() -> None:
    history = [
        write("w-1", 110, 120, key="user-0", region_asked="lhr", revision=2),
        read(INITIAL, 160, 165, key="user-0", region_asked="iad", revision=1),
        write("s-1", 10, 20, key="organizations"),
    ]
    played = black_hole_of(iad=["s-1"], lhr=["s-1"])
    verdict = judge_black_hole(history, played)
    assert verdict.ruling is Ruling.BROKEN
    assert {one.guarantee for one in verdict.findings} == {"linearizable", "one-chain-of-revisions"}
    stakes = stakes_of_black_hole(history, played)
    assert stakes["acknowledged writes before the cut"] == 1
    assert stakes["acknowledged writes elsewhere during it"] == 1
    assert stakes["reads asked inside it after others wrote"] == 1
    assert stakes["acknowledged writes after it"] == 0
    good = [history[0], read("w-1", 160, 165, key="user-0", revision=2), history[2]]
    assert judge_black_hole(good, played).ruling is Ruling.KEPT


def changed(value: str, over: str, at: int, called: int, **more: Any) -> Operation:
    return cas(over, value, called, called + 5, if_match=at, **more)


def test_what_does_not_lead_to_the_last_value_was_lost() -> None:
    history = [
        changed("w-1", INITIAL, 1, 10),
        changed("w-2", "w-1", 2, 20),
        changed("w-3", "w-2", 3, 30),  # lost with w-2
        changed("w-4", "w-1", 2, 40),
        changed("w-5", "w-4", 3, 50, outcome=Outcome.UNKNOWN),
        changed("w-6", "w-4", 3, 60, outcome=FAIL),
    ]
    versions = versions_of(history, {"k": "w-4"})
    assert versions.kept["k"] == (INITIAL, "w-1", "w-4")
    assert [versions.is_lost("k", f"w-{n}") for n in (1, 2, 3, 4)] == [False, True, True, False]
    assert versions.holds("k", "w-3", "w-2")
    assert not versions.holds("k", "w-4", "w-2")
    assert not versions.knows("k", "w-5")
    assert not versions.knows("k", "w-6")


def test_what_grew_from_a_write_that_was_refused_is_a_violation_and_no_branch() -> None:
    history = [
        changed("w-1", INITIAL, 1, 10, outcome=FAIL),
        changed("w-2", "w-1", 2, 20),
        changed("w-3", "w-2", 3, 30),
        read("w-3", 40, 45),
    ]
    versions = versions_of(history, {"k": INITIAL})
    assert not any(versions.knows("k", f"w-{n}") for n in (1, 2, 3))
    assert check_sessions(history, versions).ruling is Ruling.BROKEN


def test_without_another_primary_no_acknowledged_write_may_be_lost() -> None:
    history = [
        changed("w-1", INITIAL, 1, 10), read("w-1", 16, 18), changed("w-2", "w-1", 2, 20),
    ]  # fmt: skip
    versions = versions_of(history, {"k": "w-1"})
    assert check_sessions(history, versions).ruling is Ruling.KEPT
    assert check_nothing_lost(history, versions).ruling is Ruling.BROKEN
    assert check_nothing_lost(history, versions_of(history, {"k": "w-2"})).ruling is Ruling.KEPT
    unknown = [*history[:2], changed("w-2", "w-1", 2, 20, outcome=Outcome.UNKNOWN)]
    assert check_nothing_lost(unknown, versions_of(unknown, {"k": "w-1"})).ruling is Ruling.KEPT


def test_a_lost_write_may_be_missed_only_by_a_session_that_was_told() -> None:
    mine = [changed("w-1", INITIAL, 1, 10), changed("w-2", "w-1", 2, 20)]
    played = {told: [*mine, read("w-1", 40, 45, told_lost=told)] for told in (True, False)}
    versions = {told: versions_of(history, {"k": "w-1"}) for told, history in played.items()}
    assert check_sessions(played[True], versions[True]).ruling is Ruling.KEPT
    assert check_sessions(played[False], versions[False]).ruling is Ruling.BROKEN


def test_the_two_arms_of_the_moves_are_judged_apart() -> None:
    kept: list[Operation] = [
        changed("w-1", INITIAL, 1, 10, key="a"), read("w-1", 20, 25, key="a")
    ]  # fmt: skip
    stale = [
        changed("w-2", INITIAL, 1, 12, key="b", session="d", token_dropped=True),
        read(INITIAL, 30, 35, key="b", session="d", token_dropped=True),
    ]
    found = {"a": "w-1", "b": "w-2"}
    moves = Moves("lhr", 0, 1, {"iad": found, "lhr": found})
    assert judge_moves([*kept, *stale], moves, dropped=False).ruling is Ruling.KEPT
    assert judge_moves([*kept, *stale], moves, dropped=True).ruling is Ruling.BROKEN
    torn = Moves("lhr", 0, 1, {"iad": found, "lhr": found | {"a": INITIAL}})
    assert judge_moves([*kept, *stale], torn, dropped=False).ruling is Ruling.BROKEN
