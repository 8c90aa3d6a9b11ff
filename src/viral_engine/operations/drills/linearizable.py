"""Linearizability of registers with compare-and-set, by search.

The search is that of Wing and Gong, "Testing and Verifying Concurrent Objects" (J. Parallel
Distrib. Comput. 17, 1993), with the memory of Lowe, "Testing for linearizability" (Concurrency
Computat. 29, 2017): an order is not tried again when the same operations led to the same state.
It grows quickly with concurrency; `register` decides long histories of unique values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise

from viral_engine.clock import SYSTEM_CLOCK, Clock, Deadline
from viral_engine.operations.drills.attempts import join_attempts
from viral_engine.operations.drills.history import Kind, Operation, Outcome, Value, by_key
from viral_engine.operations.drills.verdict import Finding, Ruling, Verdict, all_of, ruled

__all__ = ["check_linearizable"]

GUARANTEE = "linearizable"
DEFAULT_BUDGET = timedelta(seconds=60)
_STEPS_BETWEEN_LOOKS = 4096


def check_linearizable(
    history: Iterable[Operation],
    *,
    initial: Value = None,
    budget: timedelta = DEFAULT_BUDGET,
    clock: Clock = SYSTEM_CLOCK,
) -> Verdict:
    """Return whether each key behaved as one register with compare-and-set.

    A cas that was refused because it ``mismatched`` says that the value was another. The budget is
    for all keys, the short ones first; a key for which it does not suffice is unknown.
    """
    deadline = Deadline.after(budget, clock)
    keys = sorted(by_key(join_attempts(history)), key=lambda one: len(one[1]))
    if not keys:
        return ruled((), checked=0)
    return all_of(_check_key(key, operations, initial, deadline) for key, operations in keys)


def _check_key(
    key: str, operations: Sequence[Operation], initial: Value, deadline: Deadline
) -> Verdict:
    search = _Search([one for one in operations if _counts(one)], initial)
    ruling = search.run(deadline)
    if ruling is Ruling.KEPT:
        return Verdict(ruling)
    if ruling is Ruling.UNKNOWN:
        why = f"the search for an order of {len(operations)} operations on {key!r} took too long"
        return Verdict(ruling, why=why)
    stuck, before = search.best.stuck, search.best.last
    sentence = (
        f"no order explains {key!r}: after {search.best.placed} of {len(search.operations)} "
        f"operations its value is {search.best.state!r}, and {stuck} fits nowhere"
    )
    shown = tuple(one for one in (before, stuck) if one is not None)
    return Verdict(ruling, (Finding(GUARANTEE, sentence, shown),))


def _counts(operation: Operation) -> bool:
    """Tell whether an operation constrains the order or may have had an effect."""
    if operation.outcome is Outcome.FAIL:
        return operation.kind is Kind.CAS and operation.mismatched
    return operation.outcome is Outcome.OK or operation.kind is not Kind.READ


def _apply(state: Value, operation: Operation) -> tuple[bool, Value]:
    """Return whether an operation could have been answered as it was, and the value after it."""
    if operation.kind is Kind.READ:
        return operation.found == state, state
    if operation.kind is Kind.WRITE:
        return True, operation.written
    matches = operation.expected == state
    if operation.outcome is Outcome.FAIL:
        return not matches, state
    return matches, operation.written


@dataclass(slots=True)
class _Best:
    """The longest order that was found, and the operation that could not follow it."""

    placed: int = -1
    state: Value = None
    last: Operation | None = None
    stuck: Operation | None = None


class _Events:
    """Calls and returns in the order of time, in a list from which they can be lifted and put back.

    Operation ``i`` is called at event ``2 * i`` and returns at ``2 * i + 1``; one of unknown
    outcome never returns. At equal times calls come first: such operations overlap.
    """

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.first = 2 * len(operations)
        self.end = self.first + 1
        timed: list[tuple[int, int, int]] = []
        for number, operation in enumerate(operations):
            timed.append((operation.called_at, 0, 2 * number))
            if operation.outcome is not Outcome.UNKNOWN:
                assert operation.returned_at is not None
                timed.append((operation.returned_at, 1, 2 * number + 1))
        order = [self.first, *(event for _, _, event in sorted(timed)), self.end]
        self.after = [self.end] * (self.end + 1)
        self.before = [self.first] * (self.end + 1)
        for one, other in pairwise(order):
            self.after[one], self.before[other] = other, one
        self.returns = [one.outcome is not Outcome.UNKNOWN for one in operations]

    def lift(self, number: int) -> None:
        """Take the events of an operation out."""
        for event in self._events(number):
            self.after[self.before[event]] = self.after[event]
            self.before[self.after[event]] = self.before[event]

    def put_back(self, number: int) -> None:
        """Undo the lift of the operation that was lifted last."""
        for event in reversed(self._events(number)):
            self.after[self.before[event]] = event
            self.before[self.after[event]] = event

    def _events(self, number: int) -> tuple[int, ...]:
        call = 2 * number
        return (call, call + 1) if self.returns[number] else (call,)


@dataclass(slots=True)
class _Search:
    operations: Sequence[Operation]
    state: Value
    placed: list[tuple[int, Value]] = field(default_factory=list)
    best: _Best = field(default_factory=_Best)

    def run(self, deadline: Deadline) -> Ruling:
        """Place operations one after the other, taking the last back where none can follow."""
        if not self.operations:
            return Ruling.KEPT
        events = _Events(self.operations)
        tried: set[tuple[int, Value]] = set()
        inside, steps = 0, 0
        event = events.after[events.first]
        while event != events.end:
            steps += 1
            if steps % _STEPS_BETWEEN_LOOKS == 0 and deadline.passed():
                return Ruling.UNKNOWN
            number, is_return = divmod(event, 2)
            if is_return:
                # It had to be placed before this moment.
                self._remember(number)
                if not self.placed:
                    return Ruling.BROKEN
                number, self.state = self.placed.pop()
                inside ^= 1 << number
                events.put_back(number)
                event = events.after[2 * number]
                continue
            fits, state = _apply(self.state, self.operations[number])
            if fits and (attempt := (inside | 1 << number, state)) not in tried:
                tried.add(attempt)
                self.placed.append((number, self.state))
                inside, self.state = attempt
                events.lift(number)
                event = events.after[events.first]
            else:
                event = events.after[event]
        # Every return was passed: what is left never returned, and may never have happened.
        return Ruling.KEPT

    def _remember(self, stuck: int) -> None:
        if len(self.placed) > self.best.placed:
            last = self.operations[self.placed[-1][0]] if self.placed else None
            self.best = _Best(len(self.placed), self.state, last, self.operations[stuck])
