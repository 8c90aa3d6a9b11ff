from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Generic, Protocol, TypeVar
from uuid import UUID

from fastapi import Query
from fastapi.exceptions import RequestValidationError
from psycopg.rows import class_row

from viral_engine.data import Databases
from viral_engine.service.cursor import Cursor

__all__ = ["MAX_PAGE", "AfterQuery", "LimitQuery", "Page", "cursor_of", "read_page"]

MAX_PAGE = 200

AfterQuery = Annotated[str | None, Query(description="`next` of the page before")]
LimitQuery = Annotated[int, Query(ge=1, le=MAX_PAGE)]


class Listed(Protocol):
    """What a row must have to be listed."""

    @property
    def id(self) -> UUID:
        """What tells rows of the same moment apart."""

    @property
    def created_at(self) -> datetime:
        """When it was created."""


R = TypeVar("R", bound=Listed)


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """Some rows in the order of their creation, and where the next page starts (None: the end)."""

    items: Sequence[R]
    next: Cursor | None

    @property
    def next_text(self) -> str | None:
        """The cursor of the next page as clients carry it."""
        return None if self.next is None else self.next.encode()


async def read_page(
    databases: Databases,
    first: bytes,
    following: bytes,
    *,
    row: type[R],
    after: Cursor | None,
    limit: int,
    values: Mapping[str, object] | None = None,
) -> Page[R]:
    """Return up to ``limit`` rows (at most 200): by ``first``, or behind the cursor by ``following``."""
    # One more than asked tells whether there is a next page.
    bound: dict[str, object] = {**(values or {}), "limit": min(limit, MAX_PAGE) + 1}
    if after is not None:
        bound |= {"created_at": after.created_at, "id": after.id}
    query = first if after is None else following
    found = await databases.select(query, bound, row_factory=class_row(row))
    items = found[:limit]
    more = len(found) > limit
    return Page(items, Cursor(items[-1].created_at, items[-1].id) if more else None)


def cursor_of(text: str | None) -> Cursor | None:
    """Read the ``after`` of a request; a text that is no cursor is answered as an invalid query."""
    if text is None:
        return None
    try:
        return Cursor.decode(text)
    except ValueError as error:
        fault = {"loc": ("query", "after"), "msg": str(error), "type": "cursor"}
        raise RequestValidationError([fault]) from error
