"""The two checkers of registers: each alone against known histories, and against each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations
from random import Random
from typing import Any, TypeAlias

import pytest
from tests.unit.drills_histories import Register, cas, draw_history, read, write

from viral_engine.errors import MisuseError
from viral_engine.operations.drills.history import Kind, Operation, Outcome, Value
from viral_engine.operations.drills.linearizable import check_linearizable
from viral_engine.operations.drills.register import check_register
from viral_engine.operations.drills.verdict import Ruling, Verdict

Check: TypeAlias = Callable[[Iterable[Operation]], Verdict]

GOOD: dict[str, list[Operation]] = {
    "one after the other": [write(1, 0, 1), read(1, 2, 3), write(2, 4, 5), read(2, 6, 7)],
    "read during a write, new then": [write(1, 0, 9), read(1, 2, 3), read(1, 4, 5)],
    "read during a write, still old": [write(1, 0, 9), read(None, 2, 3), read(1, 4, 5)],
    "unknown write seen late": [write(1, 0, 1), write(2, 2, None), read(1, 3, 4), read(2, 50, 51)],
    "unknown write never seen": [write(1, 0, 1), write(2, 2, None), read(1, 50, 51)],
    "refused write not seen": [write(1, 0, 1), write(2, 2, 3, outcome=Outcome.FAIL), read(1, 4, 5)],
    "read without an answer": [write(1, 0, 1), read(None, 2, None)],
    "overlapping writes, either order": [write(1, 0, 9), write(2, 1, 8), read(1, 10, 11)],
    "touching ends overlap": [write(1, 0, 2), read(None, 2, 3)],
    "a write retried": [
        write(1, 0, None, idempotency_key="a", index=0),
        write(1, 5, 6, idempotency_key="a", index=1, attempt=2),
        read(1, 2, 3),
    ],
}
BAD: dict[str, list[Operation]] = {
    "stale read": [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)],
    "lost write": [write(1, 0, 1), read(None, 2, 3)],
    "new, then old again": [write(1, 0, 20), read(1, 2, 3), read(None, 4, 5)],
    "two readers disagree on the order": [
        *[write(1, 0, 9), write(2, 0, 9, index=1)],
        *[read(1, 10, 11), read(2, 12, 13), read(1, 14, 15)],
    ],
    "read of what nobody wrote": [write(1, 0, 1), read(7, 2, 3)],
    "read before the write began": [read(1, 0, 1), write(1, 2, 3)],
    "refused write seen": [write(1, 0, 1, outcome=Outcome.FAIL), read(1, 2, 3)],
    "unknown write comes and goes": [
        *[write(1, 0, 1), write(2, 2, None), read(2, 3, 4), read(1, 5, 6)],
    ],
    "overwritten and current at once": [
        *[write(1, 0, 1), read(1, 8, 9), write(2, 2, 3), read(2, 4, 5)],
    ],
    "a second effect of a retry": [
        write(1, 0, None, idempotency_key="a", index=0),
        *[read(1, 2, 3), write(2, 4, 5), read(2, 6, 7)],
        write(1, 10, 11, idempotency_key="a", index=1, attempt=2),
        read(1, 12, 13),
    ],
}
CAS_GOOD = {
    "a chain": [cas(None, 1, 0, 1), cas(1, 2, 2, 3), read(2, 4, 5)],
    "refused by another value": [
        *[write(1, 0, 1), cas(2, 3, 2, 3, outcome=Outcome.FAIL, mismatched=True), read(1, 4, 5)],
    ],
    "unknown and applied": [write(1, 0, 1), cas(1, 2, 2, None), read(2, 9, 10)],
    "unknown and not applied": [write(1, 0, 1), cas(1, 2, 2, None), read(1, 9, 10)],
}
CAS_BAD = {
    "two of one value": [write(1, 0, 1), cas(1, 2, 2, 3), cas(1, 3, 4, 5)],
    "two of one value at once": [
        *[write(1, 0, 1), cas(1, 2, 2, 9), cas(1, 3, 2, 9, index=3), read(3, 10, 11)],
    ],
    "refused although it was so": [
        *[write(1, 0, 1), cas(1, 2, 2, 3, outcome=Outcome.FAIL, mismatched=True)],
    ],
    "unknown and applied to another value": [write(3, 0, 1), cas(1, 2, 2, None), read(2, 9, 10)],
}


@pytest.mark.parametrize("check", [check_register, check_linearizable])
@pytest.mark.parametrize("name", GOOD)
def test_a_history_that_one_register_explains_is_kept(check: Check, name: str) -> None:
    assert check(GOOD[name]).ruling is Ruling.KEPT


@pytest.mark.parametrize("check", [check_register, check_linearizable])
@pytest.mark.parametrize("name", BAD)
def test_a_history_that_no_register_explains_is_broken_and_says_where(
    check: Check, name: str
) -> None:
    verdict = check(BAD[name])
    assert verdict.ruling is Ruling.BROKEN
    assert all(finding.sentence and finding.operations for finding in verdict.findings)


@pytest.mark.parametrize("name", CAS_GOOD)
def test_compare_and_set_that_one_register_explains_is_kept(name: str) -> None:
    assert check_linearizable(CAS_GOOD[name]).ruling is Ruling.KEPT


@pytest.mark.parametrize("name", CAS_BAD)
def test_compare_and_set_that_no_register_explains_is_broken(name: str) -> None:
    assert check_linearizable(CAS_BAD[name]).ruling is Ruling.BROKEN


def test_keys_are_judged_apart_and_one_bad_key_breaks_the_run() -> None:
    good = [write(1, 0, 1), write(2, 2, 3, key="other"), read(1, 4, 5), read(2, 6, 7, key="other")]
    bad = [*good, read(None, 8, 9, key="other")]
    for check in (check_register, check_linearizable):
        assert check(good).ruling is Ruling.KEPT
        assert check(bad).ruling is Ruling.BROKEN


@pytest.mark.parametrize("check", [check_register, check_linearizable])
def test_an_empty_history_proves_nothing(check: Check) -> None:
    assert check([]).ruling is Ruling.UNKNOWN


@pytest.mark.parametrize("history", [[cas(1, 2, 0, 1)], [write(1, 0, 1), write(1, 2, 3)]])
def test_the_quick_checker_refuses_what_it_cannot_judge(history: list[Operation]) -> None:
    with pytest.raises(MisuseError):
        check_register(history)


def _could_follow(state: Value, one: Operation) -> tuple[bool, Value]:
    if one.kind is Kind.READ:
        return one.outcome is not Outcome.OK or one.found == state, state
    if one.outcome is Outcome.FAIL:
        return not one.mismatched or one.expected != state, state
    return one.kind is Kind.WRITE or one.expected == state, one.written


def _orders(history: Sequence[Operation]) -> Iterator[tuple[Operation, ...]]:
    must = [one for one in history if one.returned_at is not None]
    free = [one for one in history if one.returned_at is None]
    for size in range(len(free) + 1):
        for some in permutations(free, size):
            # Sorted out below: every placement of the free ones among the others.
            yield from permutations((*must, *some))


def _explained_by_trying_all(history: Sequence[Operation]) -> bool:
    for order in _orders(history):
        if any(
            later.returned_at is not None and later.returned_at < earlier.called_at
            for place, earlier in enumerate(order)
            for later in order[place + 1 :]
        ):
            continue
        state: Value = None
        for one in order:
            fits, state = _could_follow(state, one)
            if not fits:
                break
        else:
            return True
    return False


def test_the_search_agrees_with_trying_every_order() -> None:
    random = Random(1)
    rulings = {True: 0, False: 0}
    for _ in range(1500):
        history = draw_history(random, size=random.randint(1, 4), with_cas=True)
        explained = _explained_by_trying_all(history)
        assert (check_linearizable(history).ruling is not Ruling.BROKEN) == explained, history
        rulings[explained] += 1
    assert min(rulings.values()) > 200


def test_the_two_checkers_agree_on_thousands_of_small_histories() -> None:
    random = Random(2)
    rulings = {Ruling.KEPT: 0, Ruling.BROKEN: 0}
    for _ in range(6000):
        history = draw_history(random, size=random.randint(1, 9))
        quick, searched = check_register(history), check_linearizable(history)
        assert quick.ruling is searched.ruling, history
        rulings[quick.ruling] += 1
    assert min(rulings.values()) > 1000


def test_a_linearizable_register_is_kept_and_each_of_its_faults_is_caught() -> None:
    faults: tuple[dict[str, Any], ...] = ({"stale": 0.3}, {"loses": 0.3}, {"keeps_refused": True})
    caught = [0] * len(faults)
    for seed in range(20):
        sound = Register(Random(seed)).run(clients=3, operations=200)
        assert check_register(sound).ruling is Ruling.KEPT
        assert check_linearizable(sound).ruling is Ruling.KEPT
        for number, fault in enumerate(faults):
            broken = Register(Random(seed), **fault).run(clients=3, operations=200)
            verdict = check_register(broken)
            assert check_linearizable(broken).ruling is verdict.ruling
            caught[number] += verdict.ruling is Ruling.BROKEN
    # A lost write that something overwrote at once cannot be seen by anybody.
    assert min(caught) >= 19, caught


class _QuickClock:
    """A clock that goes on by a second whenever it is asked."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        self.seconds += 1
        return self.seconds


def test_a_search_that_runs_out_of_its_budget_is_unknown() -> None:
    overlapping = [write(number, 0, 1000, index=number) for number in range(24)]
    never = read(99, 0, 1000, index=99)
    verdict = check_linearizable(
        [*overlapping, never], budget=timedelta(seconds=3), clock=_QuickClock()
    )
    assert verdict.ruling is Ruling.UNKNOWN
    assert "took too long" in verdict.why


def test_a_hundred_thousand_operations_are_judged_within_two_seconds() -> None:
    history = Register(Random(3)).run(clients=20, operations=100_000)
    started = time.process_time()
    assert check_register(history).ruling is Ruling.KEPT
    assert time.process_time() - started < 2
