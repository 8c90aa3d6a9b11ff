"""Operations as their client saw them: recorded before sending and after the answer.

A history is a file of JSON lines. An operation is written when it begins, with the outcome
``unknown``, and again when it ends; the last line of an index counts. Whoever is killed in between
leaves the truth behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, TextIO, TypeAlias

from pydantic import ConfigDict, TypeAdapter, ValidationError

from viral_engine.errors import MisuseError

__all__ = ["Kind", "Operation", "Outcome", "Recorder", "Step", "Value", "by_key", "read_history"]

Value: TypeAlias = str | int | None

SHOWN = 3
"""How many values of a list are shown, the last ones."""


class Kind(StrEnum):
    """What an operation does to its key; ``cas`` writes only where it finds what it expects."""

    READ = "read"
    WRITE = "write"
    CAS = "cas"


class Outcome(StrEnum):
    """What is certain of an operation's effect.

    ``ok``: it happened. ``fail``: it did not and never will. ``unknown``: it may happen at any
    later moment, or never; a timeout, a reset and an answer of 5xx after sending are that.
    """

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Step:
    """What a transaction did to one key: it appended a value, or found these in their order."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    key: str
    appended: Value = None
    found: tuple[Value, ...] | None = None

    def __str__(self) -> str:
        if self.found is None:
            return f"appended {self.appended!r} to {self.key!r}"
        skipped = "… " if len(self.found) > SHOWN else ""
        shown = ", ".join(repr(value) for value in self.found[-SHOWN:])
        return f"found [{skipped}{shown}] in {self.key!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One request of one client; times are nanoseconds of one monotonic clock.

    ``returned_at`` is None while there is no answer. ``written`` is what a write or cas writes,
    ``expected`` what a cas compares with, ``found`` what a read found. ``mismatched`` is set
    for a cas that was refused because it found something else. ``revision`` numbers the version
    that was read or made, and ``if_match`` the one that a write insists on. ``told_lost``: the
    answer said that what this client had seen was lost. ``steps`` are what one request did to
    several keys at once, in order.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    index: int
    client: str
    session: str
    key: str
    kind: Kind
    called_at: int
    returned_at: int | None = None
    outcome: Outcome = Outcome.UNKNOWN
    written: Value = None
    expected: Value = None
    found: Value = None
    mismatched: bool = False
    revision: int | None = None
    if_match: int | None = None
    region_asked: str = ""
    region_served: str = ""
    route: str = ""
    reason: str = ""
    token_dropped: bool = False
    told_lost: bool = False
    idempotency_key: str = ""
    attempt: int = 1
    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        what = {
            Kind.READ: f"read {self.key!r}: {self.found!r}",
            Kind.WRITE: f"wrote {self.written!r} to {self.key!r}",
            Kind.CAS: f"changed {self.key!r} from {self.expected!r} to {self.written!r}",
        }[self.kind]
        if self.steps:
            what = " and ".join(map(str, self.steps))
        outcome = "" if self.outcome is Outcome.OK else f" ({self.outcome})"
        where = f" in {self.region_served}" if self.region_served else ""
        return f"#{self.index} {self.session} {what}{outcome}{where}"


_LINE = TypeAdapter(Operation)


class Recorder:
    """Writes each operation to ``file`` before it is sent and after its answer.

    A line has left this process before ``begin`` and ``end`` return, so that a killed process
    loses none. Indexes count from ``first``: histories that are joined need different ones.
    """

    def __init__(
        self, file: TextIO, *, first: int = 0, now: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._file = file
        self._next = first
        self._now = now

    def begin(
        self,
        kind: Kind,
        key: str,
        *,
        client: str,
        session: str,
        written: Value = None,
        expected: Value = None,
        if_match: int | None = None,
        region_asked: str = "",
        token_dropped: bool = False,
        idempotency_key: str = "",
        attempt: int = 1,
        steps: tuple[Step, ...] = (),
    ) -> Operation:
        """Return the operation that is about to be sent; it is unknown until ``end``."""
        operation = Operation(
            index=self._next,
            client=client,
            session=session,
            key=key,
            kind=kind,
            called_at=self._now(),
            written=written,
            expected=expected,
            if_match=if_match,
            region_asked=region_asked,
            token_dropped=token_dropped,
            idempotency_key=idempotency_key,
            attempt=attempt,
            steps=steps,
        )
        self._next += 1
        self._write(operation)
        return operation

    def end(
        self,
        operation: Operation,
        outcome: Outcome,
        *,
        found: Value = None,
        mismatched: bool = False,
        revision: int | None = None,
        region_served: str = "",
        route: str = "",
        reason: str = "",
        told_lost: bool = False,
        steps: tuple[Step, ...] | None = None,
    ) -> Operation:
        """Return the operation with its answer, whose time is now; no ``steps`` leave what was meant."""
        ended = replace(
            operation,
            returned_at=self._now(),
            outcome=outcome,
            found=found,
            mismatched=mismatched,
            revision=revision,
            region_served=region_served,
            route=route,
            reason=reason,
            told_lost=told_lost,
            steps=operation.steps if steps is None else steps,
        )
        self._write(ended)
        return ended

    def _write(self, operation: Operation) -> None:
        self._file.write(_LINE.dump_json(operation).decode() + "\n")
        self._file.flush()


def read_history(path: Path) -> list[Operation]:
    """Return the operations of a recorded file in the order of their calls.

    Raises MisuseError, with the number of the line, for one that is no operation. Only a last line
    that was cut short is passed over: its operation was not sent yet, or is known as unknown.
    """
    found: dict[int, Operation] = {}
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            operation = _LINE.validate_json(line)
        except ValidationError as error:
            if number == len(lines):
                break
            fault = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(map(str, fault["loc"]))
            raise MisuseError(
                f"{path}:{number}: not an operation of a history: "
                + (f"{where}: " if where else "")
                + fault["msg"]
            ) from error
        found[operation.index] = operation
    return sorted(found.values(), key=lambda one: (one.called_at, one.index))


def by_key(history: Iterable[Operation]) -> Iterator[tuple[str, list[Operation]]]:
    """Yield each key with its operations: keys are independent of each other."""
    grouped: dict[str, list[Operation]] = {}
    for operation in history:
        grouped.setdefault(operation.key, []).append(operation)
    yield from sorted(grouped.items())
