"""The session checker: known histories, branches that a failover took away, and a simulated store."""

from __future__ import annotations

from datetime import timedelta
from random import Random

import pytest
from tests.unit.drills_histories import LoggedStore, read, write

from viral_engine.errors import MisuseError
from viral_engine.operations.drills.history import Operation, Outcome
from viral_engine.operations.drills.sessions import Guarantee, check_sessions
from viral_engine.operations.drills.staleness import staleness_by_region
from viral_engine.operations.drills.verdict import Ruling
from viral_engine.operations.drills.versions import Versions

A, B, C = {"session": "a"}, {"session": "b"}, {"session": "c"}
TWO = Versions({"k": [1, 2], "other": [7]})
GOOD: dict[str, list[Operation]] = {
    "reads its write": [write(1, 0, 1, **A), read(1, 2, 3, **A)],
    "reads a later one": [write(1, 0, 1, **A), write(2, 2, 3, **B), read(2, 4, 5, **A)],
    "another session may be behind": [write(1, 0, 1, **A), read(None, 2, 3, **B)],
    "an unknown write owes nothing": [write(1, 0, None, **A), read(None, 2, 3, **A)],
    "an unknown read owes nothing": [
        *[write(1, 0, 1, **B), write(2, 2, 3, **B)],
        *[read(2, 4, None, **A), read(1, 6, 7, **A)],
    ],
    "a retry that came with its first attempt": [
        *[write(1, 0, None, **A), write(2, 2, 3, **B), read(2, 4, 5, **A)],
        *[write(1, 6, 7, **A, attempt=2), read(2, 8, 9, **A)],
    ],
}
BAD: dict[str, tuple[Guarantee, list[Operation]]] = {
    "misses its write": (
        Guarantee.READ_YOUR_WRITES,
        [write(1, 0, 1, **A), read(None, 2, 3, **A)],
    ),
    "goes back": (
        Guarantee.MONOTONIC_READS,
        [write(1, 0, 1, **B), write(2, 2, 3, **B), read(2, 4, 5, **A), read(1, 6, 7, **A)],
    ),
    "writes out of order on one key": (
        Guarantee.MONOTONIC_WRITES,
        [write(2, 0, 1, **A), write(1, 2, 3, **A)],
    ),
    "sees the second write without the first": (
        Guarantee.MONOTONIC_WRITES,
        [
            *[write(1, 0, 1, **A), write(7, 2, 3, **A, key="other")],
            *[read(7, 4, 5, **B, key="other"), read(None, 6, 7, **B)],
        ],
    ),
    "writes before what it read": (
        Guarantee.WRITES_FOLLOW_READS,
        [write(2, 0, 1, **B), read(2, 2, 3, **A), write(1, 4, 5, **A)],
    ),
    "sees the answer without the question": (
        Guarantee.WRITES_FOLLOW_READS,
        [
            *[write(1, 0, 1, **A), read(1, 2, 3, **B), write(7, 4, 5, **B, key="other")],
            *[read(7, 6, 7, **C, key="other"), read(None, 8, 9, **C)],
        ],
    ),
    "sees the answer without the question, through a third": (
        Guarantee.WRITES_FOLLOW_READS,
        [
            *[write(1, 0, 1, **A), read(1, 2, 3, **B), write(2, 4, 5, **B)],
            *[read(2, 6, 7, **C), write(7, 8, 9, **C, key="other")],
            *[read(7, 10, 11, session="d", key="other"), read(1, 12, 13, session="d")],
        ],
    ),
    "reads what nobody wrote": (Guarantee.NO_PHANTOMS, [read(9, 0, 1, **A)]),
    "reads what was refused": (
        Guarantee.NO_PHANTOMS,
        [write(1, 0, 1, **A, outcome=Outcome.FAIL), read(1, 2, 3, **A)],
    ),
    "an acknowledged write is in no order": (
        Guarantee.NOTHING_FORGOTTEN,
        [write(5, 0, 1, **A), read(None, 2, 3, **B)],
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_session_that_never_goes_back_is_kept(name: str) -> None:
    assert check_sessions(GOOD[name], TWO).ruling is Ruling.KEPT


@pytest.mark.parametrize("name", BAD)
def test_each_broken_guarantee_is_named(name: str) -> None:
    guarantee, history = BAD[name]
    verdict = check_sessions(history, TWO)
    assert {finding.guarantee for finding in verdict.findings} == {guarantee}
    assert all(finding.sentence and finding.operations for finding in verdict.findings)


# After 1 came 2x and 3x, which a failover took away, and then 2.
FORKED = Versions({"k": [1, 2], "other": []}, {"k": [[1, "2x", "3x"]]})


@pytest.mark.parametrize(
    ("found", "told", "ruling"),
    [
        ("2x", False, Ruling.KEPT),
        ("3x", False, Ruling.KEPT),
        (1, False, Ruling.BROKEN),
        (2, False, Ruling.BROKEN),
        (1, True, Ruling.KEPT),
        (2, True, Ruling.KEPT),
        (None, True, Ruling.BROKEN),
    ],
)
def test_what_a_failover_took_is_owed_until_the_session_is_told(
    found: int | str | None, told: bool, ruling: Ruling
) -> None:
    history = [write("2x", 0, 1, **A), read(found, 2, 3, **A, told_lost=told)]
    assert check_sessions(history, FORKED).ruling is ruling


def test_a_refusal_can_tell_a_session_what_it_lost() -> None:
    refused = read(None, 2, 3, **A, outcome=Outcome.FAIL, told_lost=True)
    history = [write("2x", 0, 1, **A), refused, read(1, 4, 5, **A)]
    assert check_sessions(history, FORKED).ruling is Ruling.KEPT


def test_a_session_that_has_moved_on_never_falls_onto_the_lost_branch() -> None:
    history = [read(2, 0, 1, **A), read("3x", 2, 3, **A)]
    verdict = check_sessions(history, FORKED)
    assert [finding.guarantee for finding in verdict.findings] == [Guarantee.MONOTONIC_READS]


def test_a_write_on_the_surviving_branch_follows_what_was_lost_only_once_told() -> None:
    untold = [read("3x", 0, 1, **A), write(2, 2, 3, **A), read(2, 4, 5, **B)]
    assert check_sessions(untold, FORKED).ruling is Ruling.BROKEN
    told = [read("3x", 0, 1, **A), write(2, 2, 3, **A, told_lost=True), read(2, 4, 5, **B)]
    assert check_sessions(told, FORKED).ruling is Ruling.KEPT


def test_a_lost_branch_of_a_lost_branch_is_told_apart() -> None:
    versions = Versions({"k": [1, 2]}, {"k": [[1, "2x", "3x"], ["2x", "3y"]]})
    assert versions.holds("k", "3y", "2x")
    assert not versions.holds("k", "3y", "3x")
    assert not versions.holds("k", "3x", "3y")
    assert not versions.holds("k", "3y", 2)
    assert versions.survivor("k", "3y") == 1


@pytest.mark.parametrize("lost", [[["nowhere", 5]], [[1, 2]]])
def test_an_order_of_versions_that_is_none_is_refused(lost: list[list[int | str]]) -> None:
    with pytest.raises(ValueError, match="'k'"):
        Versions({"k": [1, 2]}, {"k": lost})


def test_a_session_that_does_two_things_at_once_is_refused() -> None:
    with pytest.raises(MisuseError, match="one thing at a time"):
        check_sessions([write(1, 0, 9, **A), read(None, 5, 6, **A)], TWO)


def test_a_history_without_reads_proves_nothing_of_sessions() -> None:
    assert check_sessions([write(1, 0, 1)], TWO).ruling is Ruling.UNKNOWN


def test_only_tokens_moved_by_reads_and_writes_keep_a_lagging_store_in_order() -> None:
    broken: dict[str, set[str]] = {"nothing": set(), "writes": set(), "all": set()}
    for carries, found in broken.items():
        for seed in range(5):
            store = LoggedStore(Random(seed), carries)
            verdict = check_sessions(store.run(1000), Versions(store.versions))
            found |= {finding.guarantee for finding in verdict.findings}
    assert Guarantee.READ_YOUR_WRITES in broken["nothing"]
    assert Guarantee.READ_YOUR_WRITES not in broken["writes"]
    assert Guarantee.MONOTONIC_READS in broken["writes"]
    assert broken["all"] == set()


def test_staleness_counts_from_the_first_acknowledged_later_version() -> None:
    ms = 1_000_000
    history = [
        write(1, 0, 10 * ms, index=1),
        write(2, 10 * ms, 20 * ms, index=2),
        read(2, 60 * ms, 61 * ms, region_served="lhr"),
        read(1, 50 * ms, 51 * ms, region_served="lhr"),
        read(None, 30 * ms, 31 * ms, region_served="syd"),
    ]
    found = staleness_by_region(history, Versions({"k": [1, 2]}))
    assert found["lhr"].reads == 2
    assert found["lhr"].median == timedelta(0)
    assert found["lhr"].longest == found["lhr"].p99 == timedelta(milliseconds=30)
    assert found["syd"].longest == timedelta(milliseconds=20)
