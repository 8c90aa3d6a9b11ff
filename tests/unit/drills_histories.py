"""Histories for the tests of the checkers: written by hand, drawn at random, and simulated."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heapify, heapreplace
from itertools import count
from random import Random
from typing import Any

from viral_engine.operations.drills.history import Kind, Operation, Outcome, Value


def read(found: Value, called: int, returned: int | None, **more: Any) -> Operation:
    return _operation(Kind.READ, called, returned, found=found, **more)


def write(written: Value, called: int, returned: int | None, **more: Any) -> Operation:
    return _operation(Kind.WRITE, called, returned, written=written, **more)


def cas(
    expected: Value, written: Value, called: int, returned: int | None, **more: Any
) -> Operation:
    return _operation(Kind.CAS, called, returned, expected=expected, written=written, **more)


def _operation(kind: Kind, called: int, returned: int | None, **more: Any) -> Operation:
    session = more.pop("session", "s")
    given = {"index": called, "client": session, "key": "k"} | more
    given.setdefault("outcome", Outcome.UNKNOWN if returned is None else Outcome.OK)
    return Operation(kind=kind, session=session, called_at=called, returned_at=returned, **given)


def draw_history(random: Random, *, size: int, with_cas: bool = False) -> list[Operation]:
    """Return operations with times and answers out of a hat: some can be explained, most cannot."""
    history: list[Operation] = []
    for number in range(size):
        called = random.randrange(4 * size)
        returned = called + random.randrange(2 * size)
        kind = random.choice([Kind.READ, Kind.WRITE, *([Kind.CAS] if with_cas else [])])
        fate = random.choices(list(Outcome), weights=[8, 1, 2])[0]
        more: dict[str, Any] = {"outcome": fate, "index": number}
        end = None if fate is Outcome.UNKNOWN else returned
        if kind is Kind.READ:
            history.append(read(random.choice([None, *range(size)]), called, end, **more))
        elif kind is Kind.WRITE:
            history.append(write(number, called, end, **more))
        else:
            expected = random.choice([None, *range(size)])
            more["mismatched"] = fate is Outcome.FAIL and random.random() < 0.7
            history.append(cas(expected, number, called, end, **more))
    return history


@dataclass
class Register:
    """A register that is linearizable, unless a fault is switched on; each operation takes effect once.

    ``stale`` and ``loses`` are the shares of reads that show an old value and of acknowledged writes
    without effect; ``keeps_refused`` lets what was refused take effect.
    """

    random: Random
    stale: float = 0
    loses: float = 0
    keeps_refused: bool = False
    values: list[Value] = field(default_factory=lambda: [None])

    def run(self, *, clients: int, operations: int) -> list[Operation]:
        moments: list[tuple[int, int, Kind, int]] = []
        free = [self.random.randrange(10) for _ in range(clients)]
        heapify(free)
        for number in range(operations):
            called = free[0]
            effect = called + self.random.randint(1, 20)
            heapreplace(free, effect + self.random.randint(1, 20))
            kind = self.random.choice([Kind.READ, Kind.WRITE])
            moments.append((effect, called, kind, number))
        return [self._take_effect(*moment) for moment in sorted(moments)]

    def _take_effect(self, effect: int, called: int, kind: Kind, number: int) -> Operation:
        returned = effect + self.random.randint(0, 10)
        more: dict[str, Any] = {"index": number}
        if kind is Kind.READ:
            back = 5 if self.random.random() < self.stale else 1
            return read(self.values[-min(back, len(self.values))], called, returned, **more)
        fate = self.random.choices(list(Outcome), weights=[8, 1, 1])[0]
        happens = fate is Outcome.OK and self.random.random() >= self.loses
        happens |= fate is Outcome.UNKNOWN and self.random.random() < 0.5
        happens |= fate is Outcome.FAIL and self.keeps_refused
        if happens:
            self.values.append(number)
        end = None if fate is Outcome.UNKNOWN else returned
        return write(number, called, end, outcome=fate, **more)


@dataclass
class LoggedStore:
    """One primary's log and replicas that lag, read by sessions in regions that are drawn.

    ``carries`` says what moves a session's token: ``all``, ``writes`` only, or ``nothing``.
    """

    random: Random
    carries: str
    regions: int = 3
    sessions: int = 8
    keys: int = 4
    log: list[tuple[str, Value]] = field(default_factory=list)

    def run(self, operations: int) -> list[Operation]:
        clock = count()
        replayed = [0] * self.regions
        tokens = [0] * self.sessions
        history = []
        for number in range(operations):
            for region in range(self.regions):
                if self.random.random() < 0.3:
                    replayed[region] = self.random.randint(replayed[region], len(self.log))
            who, region = self.random.randrange(self.sessions), self.random.randrange(self.regions)
            more = {
                "key": f"k{self.random.randrange(self.keys)}",
                "session": f"s{who}",
                "index": number,
            }
            if self.random.random() < 0.3:
                self.log.append((str(more["key"]), number))
                history.append(write(number, next(clock), next(clock), **more))
                seen = len(self.log) if self.carries != "nothing" else 0
            else:
                replayed[region] = max(replayed[region], tokens[who])
                at = replayed[region]
                found = next((v for k, v in reversed(self.log[:at]) if k == more["key"]), None)
                history.append(
                    read(found, next(clock), next(clock), region_served=str(region), **more)
                )
                seen = at if self.carries == "all" else 0
            tokens[who] = max(tokens[who], seen)
        return history

    @property
    def versions(self) -> dict[str, list[Value]]:
        found: dict[str, list[Value]] = {f"k{number}": [] for number in range(self.keys)}
        for key, value in self.log:
            found[key].append(value)
        return found
