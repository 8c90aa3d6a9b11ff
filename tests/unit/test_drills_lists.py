"""The checker of lists: each anomaly by name, correct executions kept, worse stores found out."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.drills_transactions import ListStore, appended, found, transaction

from viral_engine.errors import MisuseError
from viral_engine.operations.drills.history import Operation, Outcome, Step
from viral_engine.operations.drills.lists import Anomaly, check_lists
from viral_engine.operations.drills.verdict import Ruling

REFUSED, UNKNOWN = Outcome.FAIL, Outcome.UNKNOWN


def at_once(number: int, *steps: Step) -> Operation:
    """One of several that all go on at the same time."""
    return transaction(number, *steps, returned=99)


GOOD: dict[str, list[Operation]] = {
    "one after the other": [
        transaction(0, appended("a", 1), found("a", 1)),
        transaction(2, found("a", 1), appended("a", 2), appended("b", 3)),
        transaction(4, found("a", 1, 2), found("b", 3)),
    ],
    "two at once, in either order": [
        at_once(0, appended("a", 1)),
        at_once(1, appended("a", 2)),
        at_once(2, found("a", 2, 1)),
    ],
    "one of unknown outcome that happened much later": [
        transaction(0, appended("a", 1), outcome=UNKNOWN),
        transaction(2, found("a")),
        transaction(4, found("a", 1)),
    ],
    "one of unknown outcome that never happened": [
        transaction(0, appended("a", 1), appended("b", 2), outcome=UNKNOWN),
        transaction(2, found("a"), found("b")),
    ],
    "one that was refused and left nothing": [
        transaction(0, appended("a", 1), outcome=REFUSED),
        transaction(2, found("a")),
    ],
}

BAD: dict[Anomaly, list[Operation]] = {
    Anomaly.PHANTOM: [transaction(0, found("a", 7))],
    Anomaly.DUPLICATE: [transaction(0, appended("a", 1)), transaction(2, found("a", 1, 1))],
    Anomaly.INCOMPATIBLE_ORDER: [
        at_once(0, appended("a", 1)),
        at_once(1, appended("a", 2)),
        at_once(2, found("a", 1, 2)),
        at_once(3, found("a", 2)),
    ],
    Anomaly.INTERNAL: [transaction(0, appended("a", 1), found("a"))],
    Anomaly.ABORTED_READ: [
        transaction(0, appended("a", 1), outcome=REFUSED),
        transaction(2, found("a", 1)),
    ],
    Anomaly.INTERMEDIATE_READ: [
        at_once(0, appended("a", 1), appended("a", 2)),
        at_once(1, found("a", 1)),
    ],
    Anomaly.WRITE_CYCLE: [
        at_once(0, appended("a", 1), appended("b", 2)),
        at_once(1, appended("a", 3), appended("b", 4)),
        at_once(2, found("a", 1, 3), found("b", 4, 2)),
    ],
    Anomaly.CIRCULAR_FLOW: [
        at_once(0, appended("a", 1), found("b", 2)),
        at_once(1, appended("b", 2), found("a", 1)),
    ],
    Anomaly.NO_SNAPSHOT: [
        at_once(0, appended("a", 1), appended("b", 2)),
        at_once(1, found("a", 1), found("b")),
        at_once(2, found("b", 2)),
    ],
    Anomaly.ANTI_DEPENDENCY: [
        at_once(0, found("a"), appended("b", 2)),
        at_once(1, found("b"), appended("a", 1)),
        at_once(2, found("a", 1), found("b", 2)),
    ],
    Anomaly.WRITE_CYCLE_IN_TIME: [
        transaction(0, appended("a", 2)),
        transaction(2, appended("a", 1)),
        transaction(4, found("a", 1, 2)),
    ],
    Anomaly.CIRCULAR_FLOW_IN_TIME: [
        transaction(0, found("a", 1)),
        transaction(2, appended("a", 1)),
    ],
    Anomaly.NO_SNAPSHOT_IN_TIME: [
        transaction(0, appended("a", 1)),
        transaction(2, found("a")),
    ],
    Anomaly.ANTI_DEPENDENCY_IN_TIME: [
        transaction(0, appended("b", 3)),
        transaction(0, found("b"), appended("a", 2), returned=99),
        transaction(5, found("a")),
    ],
}
STALE = [
    transaction(0, appended("a", 1)),
    transaction(2, appended("a", 2)),
    transaction(4, found("a", 1, 2)),
    transaction(6, found("a", 1)),
]
LONG_FORK = [
    at_once(0, appended("a", 1)),
    at_once(1, appended("b", 2)),
    at_once(2, found("a", 1), found("b")),
    at_once(3, found("a"), found("b", 2)),
]
LOST = [transaction(0, appended("a", 1)), transaction(2, appended("a", 2)), transaction(4, found("a", 2))]  # fmt: skip


def anomalies(history: list[Operation], *, in_real_time: bool = True) -> set[str]:
    return {str(one.guarantee) for one in check_lists(history, in_real_time=in_real_time).findings}


@pytest.mark.parametrize("name", GOOD)
def test_what_some_order_explains_is_kept(name: str) -> None:
    verdict = check_lists(GOOD[name])
    assert (verdict.ruling, verdict.findings) == (Ruling.KEPT, ())


@pytest.mark.parametrize("anomaly", BAD, ids=str)
def test_each_anomaly_is_named_with_the_transactions_that_show_it(anomaly: Anomaly) -> None:
    verdict = check_lists(BAD[anomaly])
    assert anomaly in {one.guarantee for one in verdict.findings}
    assert all(finding.sentence and finding.operations for finding in verdict.findings)


def test_every_anomaly_has_its_history() -> None:
    assert set(BAD) == set(Anomaly)


@pytest.mark.parametrize("anomaly", [one for one in BAD if "realtime" in one], ids=str)
def test_what_only_time_forbids_is_kept_where_time_does_not_count(anomaly: Anomaly) -> None:
    assert check_lists(BAD[anomaly], in_real_time=False).ruling is Ruling.KEPT


def test_a_stale_read_a_long_fork_and_a_lost_append_are_found() -> None:
    assert anomalies(STALE) == {Anomaly.NO_SNAPSHOT_IN_TIME}
    assert anomalies(LONG_FORK) == {Anomaly.NO_SNAPSHOT}
    assert anomalies(LOST) == {Anomaly.WRITE_CYCLE_IN_TIME}


def test_a_cycle_is_told_from_transaction_to_transaction() -> None:
    (finding,) = check_lists(BAD[Anomaly.CIRCULAR_FLOW]).findings
    assert finding.sentence == (
        "#0 s appended 1 to 'a' and found [2] in 'b'; "
        "'a' was read, with that in it, by #1 s appended 2 to 'b' and found [1] in 'a'; "
        "'b' was read, with that in it, by #0 s appended 1 to 'a' and found [2] in 'b'"
    )


def test_a_value_that_is_appended_twice_is_refused_and_no_transactions_prove_nothing() -> None:
    with pytest.raises(MisuseError, match="appended once"):
        check_lists([transaction(0, appended("a", 1)), transaction(2, appended("a", 1))])
    assert check_lists([]).ruling is Ruling.UNKNOWN


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_a_store_that_does_one_after_another_is_always_kept(seed: int, size: int) -> None:
    verdict = check_lists(ListStore(Random(seed)).run(size))
    assert not verdict.findings


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_a_mutated_read_is_never_kept(seed: int) -> None:
    random = Random(seed)
    history = ListStore(random).run(60)
    reads = [
        (place, number)
        for place, one in enumerate(history)
        for number, step in enumerate(one.steps)
        if one.outcome is Outcome.OK and len(step.found or ()) > 1
    ]
    place, number = random.choice(reads)
    step = history[place].steps[number]
    values = list(step.found or ())
    values[0], values[-1] = values[-1], values[0]
    steps = list(history[place].steps)
    steps[number] = found(step.key, *values)
    broken = transaction(history[place].called_at, *steps, returned=history[place].returned_at)
    assert check_lists([*history[:place], broken, *history[place + 1 :]]).ruling is Ruling.BROKEN


def test_snapshot_isolation_shows_write_skew_and_nothing_worse() -> None:
    seen = {
        anomaly
        for seed in range(40)
        for anomaly in anomalies(
            ListStore(Random(seed), snapshots=True).run(80), in_real_time=False
        )
    }
    assert seen == {Anomaly.ANTI_DEPENDENCY}


def test_replicas_that_lag_are_found_by_time_alone() -> None:
    seen = {
        anomaly
        for seed in range(20)
        for anomaly in anomalies(ListStore(Random(seed), stale=True).run(80))
    }
    assert seen == {Anomaly.NO_SNAPSHOT_IN_TIME}


def test_transactions_that_see_lists_of_different_moments_are_found() -> None:
    broken = [
        anomalies(ListStore(Random(s), torn=True).run(80), in_real_time=False) for s in range(20)
    ]
    assert all(broken)
    assert any(Anomaly.NO_SNAPSHOT in one for one in broken)


def test_thousands_of_transactions_are_judged_in_seconds() -> None:
    history = ListStore(Random(1), keys=tuple("abcdefgh")).run(4000)
    assert check_lists(history).ruling is Ruling.KEPT
