"""Linearizability of registers that are only read and written, each value once.

Unique values turn the search into a sort. The rule is that of Gibbons and Korach, "Testing Shared
Memories" (SIAM J. Comput. 26, 1997), section 4, here with writes whose outcome is unknown.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from viral_engine.errors import MisuseError
from viral_engine.operations.drills.attempts import join_attempts
from viral_engine.operations.drills.history import Kind, Operation, Outcome, Value, by_key
from viral_engine.operations.drills.verdict import Finding, Verdict, ruled

__all__ = ["check_register"]

GUARANTEE = "linearizable"
_BEGINNING = -1
_NEVER = 2**63


@dataclass(slots=True)
class _Cluster:
    """The write of one value and all that read it; no ``write`` is the value at the beginning.

    The value was current when the first of them ended and when the last of them began.
    """

    value: Value
    write: Operation | None
    reads: list[Operation]
    first_end: int
    last_start: int

    def take(self, read: Operation) -> None:
        assert read.returned_at is not None
        self.reads.append(read)
        self.first_end = min(self.first_end, read.returned_at)
        self.last_start = max(self.last_start, read.called_at)

    @property
    def reigns(self) -> bool:
        """Whether it was current during a whole span of time, and not just at some moment."""
        return self.first_end < self.last_start

    @property
    def span(self) -> tuple[int, int]:
        """The time between the two moments."""
        first, last = self.first_end, self.last_start
        return (first, last) if first < last else (last, first)

    @property
    def witnesses(self) -> tuple[Operation, ...]:
        """The operations that show when it was current."""
        known = [*([self.write] if self.write else []), *self.reads]
        if not known:
            return ()
        first = min(known, key=_end)
        last = max(known, key=lambda one: one.called_at)
        return (first,) if first is last else (first, last)


def check_register(history: Iterable[Operation], *, initial: Value = None) -> Verdict:
    """Return whether each key behaved as one register, in O(n log n).

    Every value must be written at most once per key and differ from ``initial``; raises MisuseError
    for a second write of a value, unless it is another attempt, and for a cas. Reads without an answer say nothing; a write of
    unknown outcome may have happened at any time after its call, or never.
    """
    findings: list[Finding] = []
    checked = 0
    for key, operations in by_key(join_attempts(history)):
        clusters, wrong = _clusters(key, operations, initial)
        findings += [*wrong, *_conflicts(key, clusters)]
        checked += len(operations)
    return ruled(findings, checked=checked)


def _end(operation: Operation) -> int:
    if operation.outcome is Outcome.OK and operation.returned_at is not None:
        return operation.returned_at
    return _NEVER


def _clusters(
    key: str, operations: Sequence[Operation], initial: Value
) -> tuple[list[_Cluster], list[Finding]]:
    clusters = {initial: _Cluster(initial, None, [], _BEGINNING, _BEGINNING)}
    for write in operations:
        if write.kind is Kind.READ:
            continue
        if write.kind is Kind.CAS:
            raise MisuseError(f"A register of {key!r} is only read and written, got {write}.")
        if write.written in clusters:
            raise MisuseError(f"Every value is written once to {key!r}, got {write} again.")
        clusters[write.written] = _Cluster(write.written, write, [], _end(write), write.called_at)
    wrong = [
        finding
        for read in operations
        if read.kind is Kind.READ and read.outcome is Outcome.OK
        for finding in _place(read, clusters.get(read.found))
    ]
    happened = [
        cluster
        for cluster in clusters.values()
        if cluster.reads or cluster.write is None or cluster.write.outcome is Outcome.OK
    ]
    return happened, wrong


def _place(read: Operation, cluster: _Cluster | None) -> Iterator[Finding]:
    write = cluster.write if cluster else None
    if cluster is None:
        yield Finding(GUARANTEE, f"nobody wrote what {read} found", (read,))
    elif write and write.outcome is Outcome.FAIL:
        yield Finding(GUARANTEE, f"{read} found what was refused: {write}", (read, write))
    elif write and _end(read) < write.called_at:
        yield Finding(GUARANTEE, f"{read} came before its write began: {write}", (read, write))
    else:
        cluster.take(read)


def _conflicts(key: str, clusters: Iterable[_Cluster]) -> Iterator[Finding]:
    zones = sorted(clusters, key=lambda cluster: cluster.span)
    reigns = [cluster for cluster in zones if cluster.reigns]
    longest = reigns[:1]
    for cluster in reigns[1:]:
        if cluster.span[0] < longest[-1].span[1]:
            yield _both(key, longest[-1], cluster, "were both current at one time")
        if cluster.span[1] > longest[-1].span[1]:
            longest.append(cluster)
    starts = [cluster.span[0] for cluster in longest]
    for cluster in zones:
        start, end = cluster.span
        place = bisect_left(starts, start) - 1
        if not cluster.reigns and place >= 0 and end < longest[place].span[1]:
            yield _both(key, longest[place], cluster, "cannot be put in an order: the second was "
                        "current only while the first was")  # fmt: skip


def _both(key: str, one: _Cluster, other: _Cluster, what: str) -> Finding:
    operations = (*one.witnesses, *other.witnesses)
    shown = ", ".join(str(operation) for operation in operations)
    sentence = f"{one.value!r} and {other.value!r} of {key!r} {what} ({shown})"
    return Finding(GUARANTEE, sentence, operations)
