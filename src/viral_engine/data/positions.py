from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from psycopg.pq.abc import PGresult

from viral_engine.lsn import Lsn

__all__ = [
    "HasPlace",
    "Position",
    "after_commit",
    "after_read",
    "asked_position",
    "covers",
    "without_page_header",
]

_LONG_HEADER = 40
_SHORT_HEADER = 24


@dataclass(frozen=True, slots=True)
class Position:
    """Where a node's log stood when it was asked: replayed by a replica, flushed by a primary.

    ``waiting`` is how many commits waited for a standby there, which it does not show yet.
    """

    timeline: int
    lsn: Lsn
    in_recovery: bool
    waiting: int = 0


class HasPlace(Protocol):
    """What of a token is compared with a node's position."""

    @property
    def timeline(self) -> int:
        """The timeline that the position is on."""

    @property
    def position(self) -> Lsn:
        """The position on that timeline."""


def covers(position: Position, token: HasPlace) -> bool:
    """Tell whether a node at ``position`` shows all that the holder of ``token`` has seen.

    A primary does on the token's timeline, and on a later one it has what is left of it. A replica
    must be on the token's own timeline: a number passed on another one proves nothing.
    """
    if not position.in_recovery:
        return position.timeline >= token.timeline
    return position.timeline == token.timeline and position.lsn >= token.position


def after_commit(row: Mapping[str, Any], *, synchronous_commit: str) -> Position:
    """Return the position that holds the commit before it.

    Without a synchronous commit the log may not be flushed that far; then it is what was inserted.
    """
    lsn = Lsn.parse(row["flushed"])
    if synchronous_commit == "off":
        inserted = Lsn.parse(row["inserted"])
        sizes = {"page": row["page_size"], "segment": row["segment_size"]}
        lsn = max(lsn, without_page_header(inserted, **sizes))
    return Position(timeline=row["timeline"], lsn=lsn, in_recovery=False)


def after_read(row: Mapping[str, Any], *, known_timeline: int | None = None) -> Position | None:
    """Return the position of the node that was read; None for one that has none yet.

    ``known_timeline`` is one that this replica was seen to stream from: one that streams no more
    tells only its last checkpoint's.
    """
    if row["lsn"] is None:
        return None
    timeline = row["timeline"]
    if row["in_recovery"]:
        timeline = max(timeline, known_timeline or 0)
    return Position(
        timeline, Lsn.parse(row["lsn"]), in_recovery=row["in_recovery"], waiting=row["waiting"]
    )


def asked_position(result: PGresult) -> Position:
    """Return the same from libpq's own answer; raise ValueError where a node has none yet."""
    in_recovery, timeline, lsn, waiting = (result.get_value(0, column) for column in range(4))
    if timeline is None or lsn is None or waiting is None:
        msg = "it has no position yet"
        raise ValueError(msg)
    return Position(
        int(timeline),
        Lsn.parse(lsn.decode()),
        in_recovery=in_recovery == b"t",
        waiting=int(waiting),
    )


def without_page_header(lsn: Lsn, *, page: int, segment: int) -> Lsn:
    """Return the end of the last record before ``lsn``, where only a page's header is in between.

    The position of the next insert skips that header, and no replica reaches it before something
    is written behind it.
    """
    if lsn.position % segment == _LONG_HEADER:
        return Lsn(lsn.position - _LONG_HEADER)
    if lsn.position % page == _SHORT_HEADER:
        return Lsn(lsn.position - _SHORT_HEADER)
    return lsn
