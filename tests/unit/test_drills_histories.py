"""What is recorded is what is read back; durable sets, revisions and verdicts against known cases."""

from __future__ import annotations

import io
from itertools import count
from pathlib import Path

import pytest
from tests.unit.drills_histories import cas, read, write

from viral_engine.errors import MisuseError
from viral_engine.operations.drills.durable import Durability, check_set
from viral_engine.operations.drills.history import (
    Kind,
    Operation,
    Outcome,
    Recorder,
    Step,
    Value,
    read_history,
)
from viral_engine.operations.drills.revisions import check_revisions
from viral_engine.operations.drills.verdict import Finding, Ruling, Verdict, all_of, judge, ruled

KEPT, BROKEN = Verdict(Ruling.KEPT), Verdict(Ruling.BROKEN, (Finding("g", "it broke"),))
UNKNOWN = Verdict(Ruling.UNKNOWN, why="it took too long")


def _record(path: Path) -> tuple[Operation, Operation]:
    with path.open("w", encoding="utf-8") as file:
        recorder = Recorder(file, now=count(100).__next__)
        first = recorder.begin(Kind.WRITE, "k", client="c", session="s", written="v")
        second = recorder.begin(Kind.READ, "k", client="d", session="t", region_asked="lhr")
        ended = recorder.end(first, Outcome.OK, revision=3, region_served="iad", route="replay")
    return ended, second


def test_what_was_recorded_is_read_back_and_what_never_returned_is_unknown(tmp_path: Path) -> None:
    ended, open_read = _record(tmp_path / "history.jsonl")
    assert read_history(tmp_path / "history.jsonl") == [ended, open_read]
    assert (ended.called_at, ended.returned_at, ended.outcome) == (100, 102, Outcome.OK)
    assert (open_read.returned_at, open_read.outcome) == (None, Outcome.UNKNOWN)


def test_the_steps_of_a_transaction_are_what_was_meant_and_then_what_was_found(
    tmp_path: Path,
) -> None:
    meant = (Step("a", appended=1),)
    done = (*meant, Step("a", found=(0, 1)), Step("b", found=()))
    with (tmp_path / "history.jsonl").open("w", encoding="utf-8") as file:
        recorder = Recorder(file, now=count().__next__)
        begun = [
            recorder.begin(Kind.WRITE, "k", client="c", session="s", steps=meant) for _ in "ab"
        ]
        ended = recorder.end(begun[0], Outcome.OK, steps=done)
        unknown = recorder.end(begun[1], Outcome.UNKNOWN)
    assert read_history(tmp_path / "history.jsonl") == [ended, unknown]
    assert (ended.steps, unknown.steps) == (done, meant)
    assert str(ended) == "#0 s appended 1 to 'a' and found [0, 1] in 'a' and found [] in 'b'"


def test_an_operation_is_on_record_before_it_is_sent() -> None:
    file = io.StringIO()
    Recorder(file).begin(Kind.WRITE, "k", client="c", session="s", written="v")
    assert '"outcome":"unknown"' in file.getvalue()
    assert file.getvalue().endswith("\n")


def test_a_last_line_that_was_cut_short_loses_only_its_answer(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    ended, open_read = _record(path)
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    again = read_history(path)
    assert [one.index for one in again] == [ended.index, open_read.index]
    assert again[0].outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("not json", "Invalid JSON"),
        ("[]", "not an operation"),
        ('{"index": 1}', "client"),
        ('{"index": "one", "client": "c"}', "index"),
        (None, "colour"),
    ],
)
def test_a_bad_line_is_named_with_its_number_and_its_fault(
    tmp_path: Path, line: str | None, said: str
) -> None:
    path = tmp_path / "history.jsonl"
    _record(path)
    good = path.read_text(encoding="utf-8")
    bad = line or good.splitlines()[0].replace("{", '{"colour": "red", ', 1)
    path.write_text(f"{good}{bad}\n{good}", encoding="utf-8")
    with pytest.raises(MisuseError, match=said) as raised:
        read_history(path)
    assert f"{path}:4:" in raised.value.message


ADDED = [
    write("kept", 0, 1),
    write("refused", 2, 3, outcome=Outcome.FAIL),
    write("maybe", 4, None),
    write("retried", 5, 6, outcome=Outcome.FAIL),
    write("retried", 7, 8),
]


@pytest.mark.parametrize(
    ("final", "wrong"),
    [
        ({"iad": ["kept", "retried"], "lhr": ["retried", "kept"]}, set()),
        ({"iad": ["kept", "retried", "maybe"]}, set()),
        ({"iad": ["retried"]}, {Durability.LOST}),
        ({"iad": ["kept", "retried", "refused"]}, {Durability.RESURRECTED}),
        ({"iad": ["kept", "retried", "strange"]}, {Durability.PHANTOM}),
        ({"iad": ["kept", "kept", "retried"]}, {Durability.TWICE}),
        (
            {"iad": ["kept", "retried", "maybe"], "lhr": ["kept", "retried"]},
            {Durability.DIVERGED},
        ),
    ],
)
def test_what_is_wrong_with_the_final_elements_is_named(
    final: dict[str, list[Value]], wrong: set[Durability]
) -> None:
    verdict = check_set(ADDED, final)
    assert {finding.guarantee for finding in verdict.findings} == wrong
    assert verdict.ruling is (Ruling.BROKEN if wrong else Ruling.KEPT)


def test_a_set_that_nobody_added_to_or_looked_at_proves_nothing() -> None:
    assert check_set([], {"iad": []}).ruling is Ruling.UNKNOWN
    assert check_set(ADDED, {}).ruling is Ruling.UNKNOWN


CHAIN = [
    write("a", 0, 1, revision=1),
    write("b", 2, 3, revision=2, if_match=1),
    read("b", 4, 5, revision=2),
]


@pytest.mark.parametrize(
    "history",
    [
        CHAIN,
        [*CHAIN, read("a", 1, 2, revision=1)],
        [*CHAIN, write("c", 6, None, if_match=2), read("c", 8, 9, revision=3)],
        [*CHAIN, write("c", 6, None, if_match=2), read("b", 8, 9, revision=2)],
        [*CHAIN, cas("b", "c", 6, 7, outcome=Outcome.FAIL, mismatched=True, if_match=1)],
        [read("before", 0, 1, revision=4), write("a", 2, 3, revision=5)],
    ],
)
def test_one_chain_of_revisions_is_kept(history: list[Operation]) -> None:
    assert check_revisions(history).ruling is Ruling.KEPT


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (write("c", 6, 7, revision=2, if_match=1), "made twice"),
        (write("c", 6, 7, revision=4, if_match=2), "insisted on"),
        (read("a", 6, 7, revision=1), "ended before it began"),
        (read("b", 0, 1, revision=2), "before its write began"),
        (read("x", 6, 7, revision=2), "not what was written"),
        (read("x", 6, 7, revision=3), "nobody made"),
        (write("c", 6, 7, revision=1), "ended before it began"),
    ],
)
def test_a_break_in_the_chain_of_revisions_is_named(more: Operation, said: str) -> None:
    verdict = check_revisions([*CHAIN, more])
    assert verdict.ruling is Ruling.BROKEN
    assert any(said in finding.sentence for finding in verdict.findings)


@pytest.mark.parametrize(
    ("experiment", "control", "at_stake", "expected"),
    [
        (KEPT, BROKEN, {"waits": 3}, Ruling.KEPT),
        (BROKEN, BROKEN, {"waits": 3}, Ruling.BROKEN),
        (BROKEN, KEPT, {}, Ruling.BROKEN),
        (UNKNOWN, BROKEN, {"waits": 3}, Ruling.UNKNOWN),
        (KEPT, KEPT, {"waits": 3}, Ruling.UNKNOWN),
        (KEPT, UNKNOWN, {"waits": 3}, Ruling.UNKNOWN),
        (KEPT, None, {"waits": 3}, Ruling.UNKNOWN),
        (KEPT, BROKEN, {"waits": 0, "failovers": 1}, Ruling.UNKNOWN),
        (KEPT, BROKEN, {}, Ruling.UNKNOWN),
    ],
)
def test_a_run_is_kept_only_where_its_rig_could_have_seen_a_break(
    experiment: Verdict, control: Verdict | None, at_stake: dict[str, int], expected: Ruling
) -> None:
    verdict = judge(experiment, control, at_stake=at_stake)
    assert verdict.ruling is expected
    assert bool(verdict.why) == (expected is Ruling.UNKNOWN)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([KEPT, KEPT], Ruling.KEPT),
        ([KEPT, UNKNOWN], Ruling.UNKNOWN),
        ([UNKNOWN, BROKEN, KEPT], Ruling.BROKEN),
        ([], Ruling.UNKNOWN),
    ],
)
def test_several_verdicts_are_as_good_as_the_worst(
    verdicts: list[Verdict], expected: Ruling
) -> None:
    assert all_of(verdicts).ruling is expected


def test_a_check_of_nothing_is_unknown_and_a_finding_is_always_broken() -> None:
    assert ruled((), checked=0).ruling is Ruling.UNKNOWN
    assert ruled((), checked=1).ruling is Ruling.KEPT
    assert ruled(BROKEN.findings, checked=0).ruling is Ruling.BROKEN
