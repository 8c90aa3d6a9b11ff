from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import psycopg
from psycopg.rows import class_row

from viral_engine.data.versions import Expected, Judgement, judge

__all__ = ["ANY_VERSION", "Conflicting", "Connection", "Versioned", "change_row", "created_row"]

ANY_VERSION = Expected()

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class Versioned(Protocol):
    """What a row must have to be changed under a precondition."""

    @property
    def version(self) -> int:
        """The count of its changes from 1."""


R = TypeVar("R", bound=Versioned)


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Conflicting(Generic[R]):
    """A change that was not made: the row as it is, and which expectation it does not meet."""

    current: R
    judgement: Judgement


async def created_row(
    connection: Connection, insert: bytes, values: Mapping[str, object], *, row: type[T]
) -> T:
    """Run an insert that returns its row, and return that."""
    cursor = connection.cursor(row_factory=class_row(row))
    await cursor.execute(insert, values)
    created = await cursor.fetchone()
    if created is None:
        msg = "an insert returned no row"
        raise AssertionError(msg)
    return created


async def change_row(
    connection: Connection,
    update: bytes,
    get: bytes,
    values: Mapping[str, object],
    *,
    expected: Expected,
    row: type[R],
) -> R | Conflicting[R] | None:
    """Run ``update`` on a row at one of the expected versions; return it, or why it was not changed.

    ``update`` itself compares ``versions`` (null: any), so two changes that expect the same version
    cannot both be made. Runs in the caller's transaction, in which what conflicts is read by ``get``.
    """
    versions = expected.versions()
    cursor = connection.cursor(row_factory=class_row(row))
    await cursor.execute(
        update, {**values, "versions": None if versions is None else list(versions)}
    )
    changed = await cursor.fetchone()
    if changed is not None or expected == ANY_VERSION:
        return changed
    await cursor.execute(get, values)
    current = await cursor.fetchone()
    if current is None:
        return None
    judgement = judge(expected, current.version)
    if judgement is Judgement.MET:
        # The client named a version that came to be between the two statements. Nothing was
        # changed, so it is told so; the row it is shown is the one it may try again with.
        judgement = (
            Judgement.VERSION_CONFLICT if expected.tags is None else Judgement.PRECONDITION_FAILED
        )
    return Conflicting(current, judgement)
