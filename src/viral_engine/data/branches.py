from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from viral_engine.data.token import SessionToken, Span
from viral_engine.lsn import Lsn

__all__ = ["Lost", "Settled", "settle", "worst"]


class Lost(StrEnum):
    """What a failover took from a client, as far as its token and the timelines' history tell.

    The worst comes first.
    """

    WRITE = "write-lost"
    WRITE_UNKNOWN = "write-unknown"
    READ = "read-lost"


@dataclass(frozen=True, slots=True)
class Settled:
    """A token as it reads on the primary's timeline, and what of it was lost on the way."""

    token: SessionToken
    lost: Lost | None = None


def worst(*losses: Lost | None) -> Lost | None:
    """Return what a client must be told that has lost all of these."""
    return next((lost for lost in Lost if lost in losses), None)


def settle(token: SessionToken, *, timeline: int, ends: Mapping[int, Lsn]) -> Settled:
    """Return what is left of ``token`` now that the primary is on ``timeline``.

    ``ends`` says where each former timeline was left. What lies before that is common to both. A
    commit that began behind it is lost; one that only ended behind it may have been kept. Nothing
    is known of a timeline that is not in ``ends``, for it was never an ancestor of this one: its
    common part ends with its last known ancestor, at the latest.
    """
    known = token.timeline in ends
    end = _end_of(token.timeline, ends)
    if token.timeline >= timeline or end is None:
        return Settled(token)
    # Promoted, a standby shows all that it holds.
    token = replace(token, timeline=timeline, ahead=Lsn(0))
    if known and token.position <= end:
        return Settled(token)
    kept = replace(token, position=min(token.position, end), wrote=None)
    wrote = token.wrote
    if wrote is not None and known and wrote.end <= end:
        return Settled(replace(kept, wrote=wrote), Lost.READ)
    return Settled(kept, _what_is_lost(wrote, end))


def _what_is_lost(wrote: Span | None, end: Lsn) -> Lost:
    if wrote is None:
        return Lost.READ
    return Lost.WRITE if wrote.start >= end else Lost.WRITE_UNKNOWN


def _end_of(timeline: int, ends: Mapping[int, Lsn]) -> Lsn | None:
    """Return up to where ``timeline`` and the primary's have the same log, at most."""
    if timeline not in ends:
        older = [ancestor for ancestor in ends if ancestor < timeline]
        return ends[max(older)] if older else None
    # A node that is promoted before it has replayed an earlier switch leaves that timeline sooner.
    return min(end for ancestor, end in ends.items() if ancestor >= timeline)
