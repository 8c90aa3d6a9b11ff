"""Session guarantees and causality over many keys.

The four guarantees are those of Terry et al., "Session Guarantees for Weakly Consistent Replicated
Data" (PDIS 1994). What a session has seen is handed on with what it writes, so a violation shows
also across sessions: whoever reads a reply must find the comment that it answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum

from viral_engine.errors import MisuseError
from viral_engine.operations.drills.history import Kind, Operation, Outcome, Value
from viral_engine.operations.drills.verdict import Finding, Verdict, ruled
from viral_engine.operations.drills.versions import Versions

__all__ = ["Guarantee", "check_nothing_lost", "check_sessions"]


class Guarantee(StrEnum):
    """What a session may count on; the last two are about any data."""

    READ_YOUR_WRITES = "read-your-writes"
    MONOTONIC_READS = "monotonic-reads"
    MONOTONIC_WRITES = "monotonic-writes"
    WRITES_FOLLOW_READS = "writes-follow-reads"
    NO_PHANTOMS = "no-phantoms"
    NOTHING_FORGOTTEN = "nothing-forgotten"


@dataclass(frozen=True, slots=True)
class _Owed:
    """A version that a session must not go behind, by which guarantee, and what made it so."""

    version: Value
    guarantee: Guarantee
    cause: Operation


@dataclass(slots=True)
class _Session:
    """What one session has written, read, and learned of by reading what others wrote, by key."""

    own: dict[str, _Owed] = field(default_factory=dict)
    seen: dict[str, _Owed] = field(default_factory=dict)
    context: dict[str, _Owed] = field(default_factory=dict)

    def forgive(self, versions: Versions) -> None:
        """Owe only what survived: the client was told that the rest is lost."""
        for owed in (self.own, self.seen, self.context):
            for key, one in owed.items():
                owed[key] = replace(one, version=versions.survivor(key, one.version))


def check_sessions(history: Iterable[Operation], versions: Versions) -> Verdict:
    """Return whether every session read its writes and never saw time, or a cause, go back.

    A read must show the last version that its session wrote or read, or a later one, and what the
    writers of all it has read had seen before they wrote. A version that a failover took away is
    owed until an answer told the session so (``told_lost``). A write of unknown outcome owes
    nothing. Raises MisuseError where a session's operations overlap: then it has no order.
    """
    operations = list(history)
    _refuse_overlaps(operations)
    check = _Check(versions, _writes(operations))
    findings = [finding for one in sorted(operations, key=_moment) for finding in check.next(one)]
    return ruled(findings, checked=check.reads)


def check_nothing_lost(history: Iterable[Operation], versions: Versions) -> Verdict:
    """Return whether every acknowledged write survived: so it must where no primary took over."""
    acknowledged = [
        one for one in history if one.kind is not Kind.READ and one.outcome is Outcome.OK
    ]
    findings = [
        Finding(
            Guarantee.NOTHING_FORGOTTEN,
            f"{one} was acknowledged and is lost, and no primary took over", (one,),
        )
        for one in acknowledged
        if versions.knows(one.key, one.written) and versions.is_lost(one.key, one.written)
    ]  # fmt: skip
    return ruled(findings, checked=len(acknowledged))


def _writes(operations: Iterable[Operation]) -> dict[tuple[str, Value], Operation]:
    found: dict[tuple[str, Value], Operation] = {}
    for one in operations:
        name = (one.key, one.written)
        # Of several attempts one that may have had an effect counts.
        if one.kind is not Kind.READ and (one.outcome is not Outcome.FAIL or name not in found):
            found[name] = one
    return found


def _moment(operation: Operation) -> tuple[int, bool]:
    # A write carries what its session knew when it was called; a read teaches when it returns.
    if operation.kind is Kind.READ and operation.returned_at is not None:
        return operation.returned_at, True
    return operation.called_at, False


def _refuse_overlaps(operations: Iterable[Operation]) -> None:
    last: dict[str, Operation] = {}
    for one in sorted(operations, key=lambda one: one.called_at):
        before = last.get(one.session)
        # One that was never answered is over for its client when it begins the next.
        if before and before.returned_at is not None and before.returned_at > one.called_at:
            raise MisuseError(
                f"A session does one thing at a time, but {one} began before the end of {before}."
            )
        last[one.session] = one


class _Check:
    def __init__(self, versions: Versions, writes: dict[tuple[str, Value], Operation]) -> None:
        self.reads = 0
        self._versions = versions
        self._writes = writes
        self._sessions: dict[str, _Session] = {}
        self._carried: dict[tuple[str, Value], dict[str, _Owed]] = {}

    def next(self, operation: Operation) -> Iterator[Finding]:
        session = self._sessions.setdefault(operation.session, _Session())
        if operation.told_lost:
            session.forgive(self._versions)
        if operation.kind is not Kind.READ:
            if operation.outcome is not Outcome.FAIL:
                yield from self._write(session, operation)
        elif operation.outcome is Outcome.OK:
            self.reads += 1
            yield from self._read(session, operation)

    def _write(self, session: _Session, write: Operation) -> Iterator[Finding]:
        key, value = write.key, write.written
        acknowledged = write.outcome is Outcome.OK
        if not self._versions.knows(key, value):
            if acknowledged:
                sentence = f"{write} was acknowledged and is no version of {key!r}, nor said lost"
                yield Finding(Guarantee.NOTHING_FORGOTTEN, sentence, (write,))
            return
        if not acknowledged and self._versions.is_lost(key, value):
            # Nobody was told that it is there, and it is not.
            return
        made = _Owed(value, Guarantee.MONOTONIC_WRITES, write)
        # Another attempt may answer for an effect that came with the first.
        if (key, value) not in self._carried:
            yield from self._order(session, write)
            self._carried[key, value] = session.context | {key: made}
        if acknowledged:
            self._advance(session.own, key, made)
            self._advance(session.context, key, made)

    def _order(self, session: _Session, write: Operation) -> Iterator[Finding]:
        for before, guarantee in (
            (session.own.get(write.key), Guarantee.MONOTONIC_WRITES),
            (session.seen.get(write.key), Guarantee.WRITES_FOLLOW_READS),
        ):
            if before and not self._versions.holds(write.key, write.written, before.version):
                sentence = f"{write} came before what its session knew: {before.cause}"
                yield Finding(guarantee, sentence, (before.cause, write))

    def _read(self, session: _Session, read: Operation) -> Iterator[Finding]:
        key, value = read.key, read.found
        write = self._writes.get((key, value))
        if write and write.outcome is Outcome.FAIL:
            sentence = f"{read} found what was refused: {write}"
            yield Finding(Guarantee.NO_PHANTOMS, sentence, (write, read))
            return
        if not self._versions.knows(key, value):
            sentence = f"{read} found what was never a version of {key!r}"
            yield Finding(Guarantee.NO_PHANTOMS, sentence, (read,))
            return
        yield from self._debts(session, read)
        seen = _Owed(value, Guarantee.WRITES_FOLLOW_READS, read)
        self._advance(session.seen, key, seen)
        self._advance(session.context, key, seen)
        for other, owed in self._carried.get((key, value), {}).items():
            self._advance(session.context, other, owed)

    def _debts(self, session: _Session, read: Operation) -> Iterator[Finding]:
        """Yield the first thing that a read went behind: its own writes weigh most."""
        for owed, guarantee in (
            (session.own.get(read.key), Guarantee.READ_YOUR_WRITES),
            (session.seen.get(read.key), Guarantee.MONOTONIC_READS),
            (session.context.get(read.key), None),
        ):
            if owed and not self._versions.holds(read.key, read.found, owed.version):
                lost = self._versions.is_lost(read.key, owed.version)
                untold = ", and its session was not told that this is lost" if lost else ""
                sentence = f"{read} went behind {owed.cause}{untold}"
                yield Finding(guarantee or owed.guarantee, sentence, (owed.cause, read))
                return

    def _advance(self, known: dict[str, _Owed], key: str, new: _Owed) -> None:
        """Keep the later one; of two branches the one that survived, which is where time goes on."""
        old = known.get(key)
        if old is not None:
            if self._versions.holds(key, old.version, new.version):
                return
            later = self._versions.holds(key, new.version, old.version)
            if not later and self._versions.is_lost(key, new.version):
                return
        known[key] = new
