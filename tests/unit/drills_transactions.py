"""Transactions on lists for the tests of their checker: written by hand, and simulated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from random import Random

from viral_engine.operations.drills.history import Kind, Operation, Outcome, Step, Value

Lists = dict[str, tuple[Value, ...]]


def appended(key: str, value: Value) -> Step:
    return Step(key, appended=value)


def found(key: str, *values: Value) -> Step:
    return Step(key, found=values)


def transaction(
    called: int, *steps: Step, returned: int | None = None, outcome: Outcome = Outcome.OK
) -> Operation:
    """One transaction; without ``returned`` it is over at once, so that time orders it."""
    end = None if outcome is Outcome.UNKNOWN else called + 1 if returned is None else returned
    kind = Kind.READ if all(step.found is not None for step in steps) else Kind.WRITE
    return Operation(
        index=called, client="c", session="s", key="lists", kind=kind, called_at=called,
        returned_at=end, outcome=outcome, steps=steps,
    )  # fmt: skip


@dataclass
class ListStore:
    """A store that does one transaction after another, unless it is told to do worse.

    ``snapshots``: each reads what was there some transactions ago and fails if what it appends to
    was changed since (snapshot isolation). ``stale``: transactions that only read see that too.
    ``torn``: a transaction sees each list as of another moment.
    """

    random: Random
    snapshots: bool = False
    stale: bool = False
    torn: bool = False
    keys: tuple[str, ...] = ("a", "b", "c")
    log: list[Lists] = field(default_factory=lambda: [{}])
    values: count[int] = field(default_factory=count)

    def run(self, transactions: int) -> list[Operation]:
        return [self._do(10 * number) for number in range(transactions)]

    def _do(self, effect: int) -> Operation:
        called, returned = effect - self.random.randint(1, 40), effect + self.random.randint(1, 40)
        asked = self._drawn()
        fate = self.random.choices(list(Outcome), weights=[8, 1, 1])[0]
        writes = any(step.found is None for step in asked)
        late = self.snapshots or (self.stale and not writes)
        base = self._as_of(self.random.randint(1, 4) if late else 1)
        if self.torn:
            base = {key: self._as_of(self.random.randint(1, 4)).get(key, ()) for key in self.keys}
        seen = list(self._executed(asked, base))
        changed = {step.key for step in asked if step.found is None}
        if self.snapshots and any(base.get(k, ()) != self.log[-1].get(k, ()) for k in changed):
            fate = Outcome.FAIL
        happens = fate is Outcome.OK or (fate is Outcome.UNKNOWN and self.random.random() < 0.5)
        if happens and writes:
            own = {step.key: step.appended for step in asked if step.found is None}
            now = self.log[-1]
            self.log.append(now | {k: (*now.get(k, ()), v) for k, v in own.items()})
        steps = seen if fate is Outcome.OK else [s for s in asked if s.found is None]
        return transaction(called, *(steps or asked), returned=returned, outcome=fate)

    def _drawn(self) -> list[Step]:
        keys = self.random.sample(self.keys, k=self.random.randint(1, len(self.keys)))
        return [
            found(key) if self.random.random() < 0.5 else appended(key, next(self.values))
            for key in keys
        ]

    def _as_of(self, back: int) -> Lists:
        return self.log[-min(back, len(self.log))]

    def _executed(self, asked: list[Step], base: Lists) -> Iterator[Step]:
        lists = dict(base)
        for step in asked:
            before = lists.get(step.key, ())
            if step.found is None:
                lists[step.key] = (*before, step.appended)
                yield step
            else:
                yield found(step.key, *before)
