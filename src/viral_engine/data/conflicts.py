from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from viral_engine.data.hybrid_clock import HybridTime
from viral_engine.data.versions import Expected, Judgement, judge

__all__ = [
    "Current",
    "Incoming",
    "Keep",
    "LastWriterWins",
    "Refuse",
    "Reject",
    "Resolve",
    "Store",
    "Strategy",
    "settle_conflict",
]

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Current(Generic[R]):
    """The row as the primary has it in this transaction; ``at`` where writes are stamped."""

    row: R
    version: int
    at: HybridTime | None = None


@dataclass(frozen=True, slots=True)
class Incoming(Generic[R]):
    """The row as a client wants it, with the version it expected and the time it was written."""

    row: R
    expected: Expected = field(default_factory=Expected)
    at: HybridTime | None = None


@dataclass(frozen=True, slots=True)
class Store(Generic[R]):
    """Write this row where its version is still ``replaces``; None: insert it."""

    row: R
    replaces: int | None


@dataclass(frozen=True, slots=True)
class Keep(Generic[R]):
    """The current row stays: the incoming one is older, and nobody did wrong."""

    row: R


@dataclass(frozen=True, slots=True)
class Refuse:
    """Change nothing; ``reason`` is a Judgement's value, or a resolver's own words."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reject:
    """A change that is based on another version is refused, and its client shown the current row."""


@dataclass(frozen=True, slots=True)
class LastWriterWins(Generic[R]):
    """The row with the later hybrid time stays, whichever arrives last.

    Rows of equal times are ordered by ``tie``, so that clients which gave one time twice still
    end with one row everywhere; without it the current one stays.
    """

    tie: Callable[[R], Any] | None = None


@dataclass(frozen=True, slots=True)
class Resolve(Generic[R]):
    """Where versions conflict, ``merge(current, incoming)`` says which row is stored, or Refuse.

    It must be pure: it runs again whenever the row changed before it could be written.
    """

    merge: Callable[[R, R], R | Refuse]


Strategy: TypeAlias = Reject | LastWriterWins[R] | Resolve[R]
Outcome: TypeAlias = Store[R] | Keep[R] | Refuse


def settle_conflict(
    strategy: Strategy[R], current: Current[R] | None, incoming: Incoming[R]
) -> Outcome[R]:
    """Return what becomes of a change, from values alone.

    ``If-Match`` is the client's own demand and holds under every strategy; the version in a body
    only says what the change is based on, and the strategy decides what follows. Under
    LastWriterWins the outcome of a set of writes without ``If-Match`` is the same in every order of
    arrival. Raises ValueError when such a write has no time.
    """
    judgement = judge(incoming.expected, None if current is None else current.version)
    if judgement is Judgement.PRECONDITION_FAILED:
        return Refuse(judgement.value)
    if isinstance(strategy, LastWriterWins):
        return _later(strategy, current, incoming)
    if judgement is Judgement.MET:
        return Store(incoming.row, replaces=None if current is None else current.version)
    if current is not None and isinstance(strategy, Resolve):
        merged = strategy.merge(current.row, incoming.row)
        return merged if isinstance(merged, Refuse) else Store(merged, replaces=current.version)
    return Refuse(judgement.value)


def _later(
    strategy: LastWriterWins[R], current: Current[R] | None, incoming: Incoming[R]
) -> Outcome[R]:
    if incoming.at is None:
        msg = "a write without a hybrid time cannot be compared with others"
        raise ValueError(msg)
    if current is None:
        return Store(incoming.row, replaces=None)
    # A row from before the strategy was declared has no time, and is older than any that has.
    if current.at is not None:
        if incoming.at < current.at:
            return Keep(current.row)
        if incoming.at == current.at and not _wins_tie(strategy, current.row, incoming.row):
            return Keep(current.row)
    return Store(incoming.row, replaces=current.version)


def _wins_tie(strategy: LastWriterWins[R], current: R, incoming: R) -> bool:
    tie = strategy.tie
    return tie is not None and bool(tie(incoming) > tie(current))
