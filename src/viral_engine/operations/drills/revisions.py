"""Registers whose versions are numbered by the server and written with ``If-Match``.

The numbers give the order, so nothing is searched: what remains is that they form one chain, and
that no operation sees the chain shorter than one that ended before it began.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

from viral_engine.operations.drills.history import Kind, Operation, Outcome, by_key
from viral_engine.operations.drills.verdict import Finding, Verdict, ruled

__all__ = ["check_revisions"]

GUARANTEE = "one-chain-of-revisions"


def check_revisions(history: Iterable[Operation]) -> Verdict:
    """Return whether the revisions of each key form one chain, seen in the order of real time.

    Judges operations that were answered with a ``revision``. Two accepted writes never share one;
    a write that insisted on ``if_match`` made the revision after it; a read shows what the write of
    its revision wrote, not before that was called, and never less than what was known when it began.
    """
    findings: list[Finding] = []
    checked = 0
    for _, operations in by_key(history):
        answered = [
            one
            for one in operations
            if one.outcome is Outcome.OK
            and one.revision is not None
            and one.returned_at is not None
        ]
        writes = [one for one in answered if one.kind is not Kind.READ]
        reads = [one for one in answered if one.kind is Kind.READ]
        unanswered = [
            one
            for one in operations
            if one.kind is not Kind.READ and one.outcome is Outcome.UNKNOWN
        ]
        checked += len(answered)
        findings += [*_forks(writes), *_origins(reads, writes, unanswered), *_behind(answered)]
    return ruled(findings, checked=checked)


def _revision(operation: Operation) -> int:
    assert operation.revision is not None
    return operation.revision


def _forks(writes: Iterable[Operation]) -> Iterator[Finding]:
    made: dict[int, Operation] = {}
    for write in writes:
        revision = _revision(write)
        other = made.setdefault(revision, write)
        if other is not write:
            sentence = f"revision {revision} was made twice: {other} and {write}"
            yield Finding(GUARANTEE, sentence, (other, write))
        if write.if_match is not None and write.if_match != revision - 1:
            sentence = f"{write} insisted on revision {write.if_match} and made {revision}"
            yield Finding(GUARANTEE, sentence, (write,))


def _origins(
    reads: Iterable[Operation], writes: Iterable[Operation], unanswered: Iterable[Operation]
) -> Iterator[Finding]:
    made = {_revision(write): write for write in writes}
    first = min(made, default=0)
    possible = {(write.written, write.if_match) for write in unanswered}
    for read in reads:
        revision = _revision(read)
        write = made.get(revision)
        if write is None:
            # What stood there before the first write that was recorded has no origin here.
            known = {(read.found, revision - 1), (read.found, None)} & possible
            if revision >= first and made and not known:
                sentence = f"nobody made revision {revision}, as {read} found it"
                yield Finding(GUARANTEE, sentence, (read,))
        elif read.found != write.written:
            sentence = f"revision {revision} is not what was written: {read}, {write}"
            yield Finding(GUARANTEE, sentence, (write, read))
        elif read.returned_at is not None and read.returned_at < write.called_at:
            yield Finding(GUARANTEE, f"{read} came before its write began: {write}", (write, read))


def _behind(answered: Sequence[Operation]) -> Iterator[Finding]:
    """Yield each operation that shows less than one that had ended before it began."""
    ended = sorted(answered, key=lambda one: one.returned_at or 0)
    times = [one.returned_at or 0 for one in ended]
    furthest: list[Operation] = []
    for one in ended:
        furthest.append(max(furthest[-1], one, key=_revision) if furthest else one)
    for one in sorted(answered, key=attrgetter("called_at")):
        place = bisect_left(times, one.called_at) - 1
        if place >= 0 and _revision(furthest[place]) > _revision(one):
            sentence = f"{one} has revision {one.revision}, behind {furthest[place].revision} of "
            sentence += f"{furthest[place]}, which ended before it began"
            yield Finding(GUARANTEE, sentence, (furthest[place], one))
