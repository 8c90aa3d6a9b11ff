from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from viral_engine.lsn import Lsn

__all__ = ["parse_history"]


def parse_history(text: str) -> Mapping[int, Lsn]:
    """Return where each former timeline was left, by PostgreSQL's history file of the current one.

    A line has the timeline, the position at which the next one left it, and a reason; lines that
    begin with ``#`` and empty ones say nothing. Raises ValueError for anything else.
    """
    ends: dict[int, Lsn] = {}
    for line in text.splitlines():
        fields = line.split(maxsplit=2)
        if not fields or fields[0].startswith("#"):
            continue
        if len(fields) < 2:
            msg = f"not a line of a timeline's history: {line!r}"
            raise ValueError(msg)
        ends[int(fields[0])] = Lsn.parse(fields[1])
    return MappingProxyType(ends)
