"""Which transaction must come before which, and the circles in which that leads nowhere."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from viral_engine.operations.drills.history import Operation, Outcome, Value

__all__ = ["By", "Cycle", "Edge", "Lists", "dependencies", "find_cycle"]

SOUGHT = 16
"""From how many transactions of a cycle the shortest way round is looked for."""


class By(StrEnum):
    """Why one transaction comes before another."""

    WRITE = "was appended to before"
    READ = "was read, with that in it, by"
    OVERWRITE = "was read before it was appended to by"
    TIME = "had ended before the call of"


@dataclass(frozen=True, slots=True)
class Edge:
    """``before`` precedes ``after``, for what they did to ``key``.

    Both are numbers of transactions; what is above those is a moment at which one had ended.
    """

    before: int
    after: int
    by: By
    key: str = ""


@dataclass(frozen=True, slots=True)
class Cycle:
    """Edges that lead back to where they began."""

    edges: tuple[Edge, ...]

    def transactions(self, count: int) -> list[int]:
        """Return the transactions on it, which are the numbers below ``count``."""
        return [edge.before for edge in self.edges if edge.before < count]

    def sentence(self, happened: Sequence[Operation]) -> str:
        """Return it in words."""
        told = [str(happened[self.transactions(len(happened))[0]])]
        for edge in _from_a_transaction(self.edges, len(happened)):
            if edge.after < len(happened):
                list_of = f"{edge.key!r} " if edge.key else ""
                told.append(f"{list_of}{edge.by} {happened[edge.after]}")
        return "; ".join(told)


@dataclass(frozen=True, slots=True)
class Lists:
    """What transactions show of lists: the longest of each that was read, and who appended what.

    ``happened`` are the acknowledged transactions, and those of unknown outcome that were read.
    ``unread`` has of each key who certainly appended to it what nobody read: that came last.
    """

    happened: Sequence[Operation]
    longest: Mapping[str, tuple[Value, ...]]
    writers: Mapping[tuple[str, Value], int]
    unread: Mapping[str, frozenset[int]]

    @classmethod
    def of(
        cls, transactions: Sequence[Operation], appends: Mapping[tuple[str, Value], Operation]
    ) -> Lists:
        """Return what these transactions show."""
        longest = {step.key: () for one in transactions for step in one.steps} | _longest(
            transactions
        )
        read = {id(appends.get((key, value))) for key, found in longest.items() for value in found}
        happened = [
            one
            for one in transactions
            if one.outcome is Outcome.OK or (one.outcome is Outcome.UNKNOWN and id(one) in read)
        ]
        numbers = {id(one): number for number, one in enumerate(happened)}
        writers = {name: numbers[id(one)] for name, one in appends.items() if id(one) in numbers}
        shown = {key: set(found) for key, found in longest.items()}
        unread = {
            key: frozenset(n for (k, v), n in writers.items() if k == key and v not in shown[key])
            for key in longest
        }
        return cls(happened, longest, writers, unread)

    def after(self, key: str, found: tuple[Value, ...]) -> frozenset[int]:
        """Return who appended next to a list of which ``found`` was read."""
        longest = self.longest[key]
        if len(found) >= len(longest):
            return self.unread[key]
        number = self.writers.get((key, longest[len(found)]))
        return frozenset() if number is None else frozenset({number})


def _longest(transactions: Iterable[Operation]) -> dict[str, tuple[Value, ...]]:
    found: dict[str, tuple[Value, ...]] = {}
    for one in transactions:
        for step in one.steps:
            if one.outcome is Outcome.OK and len(step.found or ()) > len(found.get(step.key, ())):
                found[step.key] = step.found or ()
    return found


def dependencies(lists: Lists) -> Iterator[Edge]:
    """Yield why which transaction must have come before which."""
    for key, found in lists.longest.items():
        yield from _writes(lists, key, found)
    for number, one in enumerate(lists.happened):
        if one.outcome is Outcome.OK:
            yield from _reads(lists, number, one)
    yield from _times(lists.happened)


def _writes(lists: Lists, key: str, found: tuple[Value, ...]) -> Iterator[Edge]:
    known = [number for value in found if (number := lists.writers.get((key, value))) is not None]
    for one, other in pairwise(known):
        if one != other:
            yield Edge(one, other, By.WRITE, key)
    for other in lists.unread[key] - set(known) if known else ():
        yield Edge(known[-1], other, By.WRITE, key)


def _reads(lists: Lists, number: int, transaction: Operation) -> Iterator[Edge]:
    own = {step.appended for step in transaction.steps if step.found is None}
    for step in transaction.steps:
        if step.found is None:
            continue
        # What it appended itself tells nothing of others.
        found = tuple(value for value in step.found if value not in own)
        writer = lists.writers.get((step.key, found[-1])) if found else None
        if writer is not None:
            yield Edge(writer, number, By.READ, step.key)
        for other in lists.after(step.key, found) - {number}:
            yield Edge(number, other, By.OVERWRITE, step.key)


def _times(happened: Sequence[Operation]) -> Iterator[Edge]:
    # One chain of moments instead of an edge between any two transactions.
    ended = sorted(
        (one.returned_at, number)
        for number, one in enumerate(happened)
        if one.outcome is Outcome.OK and one.returned_at is not None
    )
    first = len(happened)
    for place, (_, number) in enumerate(ended):
        yield Edge(number, first + place, By.TIME)
        if place:
            yield Edge(first + place - 1, first + place, By.TIME)
    moments = [moment for moment, _ in ended]
    for number, one in enumerate(happened):
        place = bisect_left(moments, one.called_at) - 1
        if place >= 0:
            yield Edge(first + place, number, By.TIME)


_Ways = dict[int, dict[int, tuple[Edge, ...]]]


def find_cycle(edges: Iterable[Edge], *, apart: bool = False) -> Cycle | None:
    """Return a short cycle of these edges, None where they have none.

    ``apart`` asks for one in which no two overwrites follow each other: those that do are what
    snapshot isolation allows.
    """
    ways = _ways(edges, apart=apart)
    try:
        TopologicalSorter(ways).prepare()
    except CycleError as error:
        return Cycle(
            min((_shortest(ways, node) for node in sorted(error.args[1])[:SOUGHT]), key=len)
        )
    return None


def _ways(edges: Iterable[Edge], *, apart: bool) -> _Ways:
    given = list(edges)
    ways: _Ways = {}
    overwrites: dict[int, list[Edge]] = {}
    for edge in given:
        if apart and edge.by is By.OVERWRITE:
            overwrites.setdefault(edge.before, []).append(edge)
        else:
            ways.setdefault(edge.before, {}).setdefault(edge.after, (edge,))
    if apart:
        for edge in given:
            for then in overwrites.get(edge.after, ()) if edge.by is not By.OVERWRITE else ():
                ways[edge.before].setdefault(then.after, (edge, then))
    return ways


def _shortest(ways: _Ways, start: int) -> tuple[Edge, ...]:
    """Return the shortest way from ``start`` back to it, by breadth-first search."""
    came: dict[int, int] = {}
    waiting = deque([start])
    while waiting and start not in came:
        node = waiting.popleft()
        for after in ways.get(node, ()):
            if after not in came:
                came[after] = node
                waiting.append(after)
    path: list[Edge] = []
    node = start
    while node in came:
        path[:0] = ways[came[node]][node]
        node = came[node]
        if node == start:
            break
    return tuple(path)


def _from_a_transaction(edges: tuple[Edge, ...], count: int) -> tuple[Edge, ...]:
    start = next(place for place, edge in enumerate(edges) if edge.before < count)
    return (*edges[start:], *edges[:start])
