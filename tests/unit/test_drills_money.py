"""Balances, counters and what happens once: known histories, planted faults, simulated ledgers."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.drills_histories import cas, read, write

from viral_engine.operations.drills.durable import Durability
from viral_engine.operations.drills.history import Operation, Outcome, Step, Value
from viral_engine.operations.drills.money import Money, check_bank, check_counter
from viral_engine.operations.drills.once import Once, check_owners, check_storm, overlaps
from viral_engine.operations.drills.verdict import Ruling, Verdict

ACCOUNTS = frozenset({"a", "b"})
FAIL, UNKNOWN = Outcome.FAIL, Outcome.UNKNOWN


def balances(called: int, found: dict[str, int], outcome: Outcome = Outcome.OK) -> Operation:
    steps = tuple(Step(account, found=(cents,)) for account, cents in found.items())
    return read(None, called, called + 1, steps=steps, outcome=outcome)


def guarantees(verdict: Verdict) -> set[str]:
    assert all(one.sentence for one in verdict.findings)
    return {str(one.guarantee) for one in verdict.findings}


def test_a_bank_whose_reads_all_see_the_total_is_kept() -> None:
    history = [balances(0, {"a": 60, "b": 40}), write("t", 2, 3), balances(4, {"a": 0, "b": 100})]
    assert check_bank(history, accounts=ACCOUNTS, total=100).ruling is Ruling.KEPT


@pytest.mark.parametrize(
    ("anomaly", "seen"),
    [
        (Money.TOTAL, {"a": 60, "b": 41}),
        (Money.TOTAL, {"a": 59, "b": 40}),
        (Money.OVERDRAWN, {"a": -1, "b": 101}),
        (Money.ACCOUNTS, {"a": 100}),
        (Money.ACCOUNTS, {"a": 60, "b": 40, "c": 0}),
        (Money.ACCOUNTS, {}),
    ],
)
def test_a_bank_that_shows_something_else_is_found_out(
    anomaly: Money, seen: dict[str, int]
) -> None:
    verdict = check_bank([balances(0, seen)], accounts=ACCOUNTS, total=100)
    assert guarantees(verdict) == {anomaly}


def test_a_bank_that_nobody_could_read_is_unknown() -> None:
    history = [balances(0, {}, FAIL), balances(1, {}, UNKNOWN), write("t", 2, 3)]
    assert check_bank(history, accounts=ACCOUNTS, total=100).ruling is Ruling.UNKNOWN


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_a_ledger_that_moves_money_whole_is_kept_and_one_that_does_not_is_not(
    seed: int, size: int
) -> None:
    random, ledger, history = Random(seed), {"a": 500, "b": 500}, []
    for number in range(size):
        cents = random.randint(-ledger["a"], ledger["b"])
        ledger = {"a": ledger["a"] + cents, "b": ledger["b"] - cents}
        history.append(balances(2 * number, ledger))
    assert check_bank(history, accounts=ACCOUNTS, total=1000).ruling is Ruling.KEPT
    history.append(balances(2 * size, ledger | {"a": ledger["a"] + random.choice([-1, 1])}))
    assert Money.TOTAL in guarantees(check_bank(history, accounts=ACCOUNTS, total=1000))


def ended(count: int, region: str = "iad") -> dict[str, dict[str, int]]:
    return {region: {"k": count}}


GOOD_COUNTERS: dict[str, tuple[list[Operation], int]] = {
    "nothing added": ([read(0, 0, 1)], 0),
    "read between": ([write(2, 0, 1), read(2, 2, 3), write(3, 4, 5)], 5),
    "read meanwhile": ([write(2, 0, 9), read(0, 1, 2), read(2, 3, 4)], 2),
    "unknown that happened": ([write(2, 0, None), read(2, 1, 2)], 2),
    "unknown that did not": ([write(2, 0, None), read(0, 1, 2)], 0),
    "refused": ([write(2, 0, 1, outcome=FAIL), read(0, 2, 3)], 0),
    "tried twice, counted once": (
        [
            write(2, 0, None, idempotency_key="x"),
            write(2, 4, 5, idempotency_key="x", attempt=2),
            read(2, 6, 7),
        ],
        2,
    ),
}
BAD_COUNTERS: dict[str, tuple[Money, list[Operation], int]] = {
    "a read misses what was acknowledged": (Money.TOO_LITTLE, [write(2, 0, 1), read(0, 2, 3)], 2),
    "a read sees what nobody added yet": (Money.TOO_MUCH, [read(2, 0, 1), write(2, 2, 3)], 2),
    "an addition is lost at the end": (Money.TOO_LITTLE, [write(2, 0, 1)], 0),
    "what was refused counts": (Money.TOO_MUCH, [write(2, 0, 1, outcome=FAIL)], 2),
    "a retry counts twice": (
        Money.TOO_MUCH,
        [write(2, 0, None, idempotency_key="x"), write(2, 4, 5, idempotency_key="x")],
        4,
    ),
}


@pytest.mark.parametrize("name", GOOD_COUNTERS)
def test_a_counter_that_adds_up_is_kept(name: str) -> None:
    history, last = GOOD_COUNTERS[name]
    assert check_counter(history, ended(last)).ruling is Ruling.KEPT


@pytest.mark.parametrize("name", BAD_COUNTERS)
def test_a_counter_that_does_not_add_up_is_found_out(name: str) -> None:
    anomaly, history, last = BAD_COUNTERS[name]
    assert guarantees(check_counter(history, ended(last))) == {anomaly}


def test_a_counter_that_one_region_has_not_is_found_out_and_none_at_all_is_unknown() -> None:
    final = ended(2) | {"lhr": {}}
    assert guarantees(check_counter([write(2, 0, 1)], final)) == {Money.TOO_LITTLE}
    assert check_counter([], {}).ruling is Ruling.UNKNOWN


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_a_counter_in_which_everything_counts_once_is_kept_and_any_other_end_is_not(
    seed: int, size: int
) -> None:
    random, now, certain, history = Random(seed), 0, 0, []
    for number in range(size):
        amount, at = random.randint(1, 9), 4 * number
        fate = random.choice(list(Outcome))
        happens = fate is Outcome.OK or (fate is UNKNOWN and random.random() < 0.5)
        now, certain = now + amount * happens, certain + amount * (fate is Outcome.OK)
        history.append(write(amount, at, None if fate is UNKNOWN else at + 1, outcome=fate))
        history.append(read(now, at + 2, at + 3))
    asked = sum(int(one.written or 0) for one in history if one.outcome is not FAIL)
    assert check_counter(history, ended(now)).ruling is Ruling.KEPT
    assert check_counter(history, ended(certain - 1)).ruling is Ruling.BROKEN
    assert check_counter(history, ended(asked + 1)).ruling is Ruling.BROKEN


def tried(key: str, effect: Value, called: int, region: str = "iad", **more: Any) -> Operation:
    end = None if more.get("outcome") is UNKNOWN else called + 5
    given = {"found": effect, "idempotency_key": key, "region_asked": region} | more
    return write(key, called, end, **given)


STORM = [tried("x", "e1", 0), tried("x", "e1", 1, "lhr"), tried("x", None, 2, outcome=UNKNOWN)]
FOUND = {"iad": [("x", "e1")], "lhr": [("x", "e1")]}


def test_a_storm_with_one_effect_is_kept_and_counted_as_one_overlap() -> None:
    assert check_storm(STORM, FOUND).ruling is Ruling.KEPT
    assert overlaps(STORM) == 1
    assert overlaps([tried("x", "e1", 0), tried("x", "e1", 9, "lhr")]) == 0
    assert overlaps([tried("x", "e1", 0), tried("x", "e1", 1)]) == 0


@pytest.mark.parametrize(
    ("anomaly", "effects"),
    [
        (Durability.TWICE, [("x", "e1"), ("x", "e2")]),
        (Durability.LOST, []),
        (Once.OTHER_EFFECT, [("x", "e2")]),
        (Durability.PHANTOM, [("x", "e1"), ("y", "e2")]),
    ],
)
def test_a_storm_whose_effect_is_not_there_once_is_found_out(
    anomaly: str, effects: list[tuple[Value, Value]]
) -> None:
    assert guarantees(check_storm(STORM, {"iad": effects})) == {anomaly}


def test_a_storm_with_two_answers_or_two_worlds_is_found_out() -> None:
    other = tried("x", "e2", 3)
    assert Once.TWO_ANSWERS in guarantees(check_storm([*STORM, other], FOUND))
    two = {"iad": [("x", "e1")], "lhr": []}
    assert Durability.DIVERGED in guarantees(check_storm(STORM, two))
    refused = [replace(one, outcome=FAIL, found=None) for one in STORM]
    assert guarantees(check_storm(refused, FOUND)) == {Durability.RESURRECTED}
    assert check_storm(STORM, {}).ruling is Ruling.UNKNOWN


def wanted(owner: Value, called: int, **more: Any) -> Operation:
    return cas(None, f"of {called}", called, called + 5, **{"key": "mail", "found": owner} | more)


def taken(called: int) -> Operation:
    return wanted(None, called, outcome=FAIL, mismatched=True)


WANTED = [wanted("u1", 0), taken(1), taken(2)]


def test_a_name_with_one_owner_is_kept_also_where_nobody_knows_who_got_it() -> None:
    assert check_owners(WANTED, {"iad": [("mail", "u1")]}).ruling is Ruling.KEPT
    unknown = [wanted(None, 0, outcome=UNKNOWN), taken(1)]
    for there in ([("mail", "u7")], []):
        assert check_owners(unknown, {"iad": there}).ruling is Ruling.KEPT


@pytest.mark.parametrize(
    ("anomaly", "history", "there"),
    [
        (Once.TWO_OWNERS, [*WANTED, wanted("u2", 3)], [("mail", "u1")]),
        (Once.TWO_OWNERS, WANTED, [("mail", "u1"), ("mail", "u2")]),
        (Once.NO_OWNER, WANTED, []),
        (Once.OTHER_OWNER, WANTED, [("mail", "u2")]),
        (Once.REFUSED_FOR_NOBODY, [taken(0), taken(1)], []),
    ],
)
def test_a_name_that_has_not_one_owner_is_found_out(
    anomaly: Once, history: list[Operation], there: list[tuple[Value, Value]]
) -> None:
    assert guarantees(check_owners(history, {"iad": there})) == {anomaly}


def test_an_owner_of_what_was_refused_to_all_and_owners_that_differ_are_found_out() -> None:
    refused = [wanted(None, 0, outcome=FAIL), wanted(None, 1, outcome=FAIL)]
    there = {"iad": [("mail", "u1")], "lhr": [("mail", "u1")]}
    assert guarantees(check_owners(refused, there)) == {Once.OWNED_WITHOUT_ASKING}
    unknown = [wanted(None, 0, outcome=UNKNOWN), wanted(None, 1, outcome=UNKNOWN)]
    apart: dict[str, list[tuple[Value, Value]]] = {"iad": [("mail", "u1")], "lhr": [("mail", "u2")]}
    for final in (apart, {**there, "lhr": []}):
        assert guarantees(check_owners(unknown, final)) == {Once.OWNERS_DIFFER}


def test_names_that_were_never_looked_up_prove_nothing() -> None:
    assert check_owners(WANTED, {}).ruling is Ruling.UNKNOWN
