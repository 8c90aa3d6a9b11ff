from __future__ import annotations

from datetime import datetime, timedelta

from viral_engine.clock import SYSTEM_CLOCK, Clock
from viral_engine.cluster import ClusterView
from viral_engine.data.branches import Lost, settle, worst
from viral_engine.data.commit import Commit
from viral_engine.data.positions import Position
from viral_engine.data.token import SessionToken, Span, merge
from viral_engine.lsn import Lsn

__all__ = ["Session"]

# Far less than a token's lifetime: until then one that says the same need not be signed anew.
YOUNG = timedelta(minutes=5)


class Session:
    """What the client of one request has seen: what it said, and what this request adds to it.

    It only advances. ``wrote`` tells whether this request itself has committed something, ``lost``
    what a failover took from this client since its last request.
    """

    def __init__(
        self,
        token: SessionToken | None = None,
        *,
        lost: Lost | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.token = token
        self.lost = lost
        self.wrote = False
        self._clock = clock

    def join(self, token: SessionToken, view: ClusterView) -> None:
        """Count in what the holder of ``token`` has seen, a token of the same cluster.

        Settled by itself first: merged, an older timeline's commit would be forgotten unasked.
        """
        before, self.token = self.token, token
        self.settle(view)
        if before is not None:
            self.token = merge(before, self.token)

    def settle(self, view: ClusterView) -> None:
        """Read the token on the timeline of the primary that ``view`` knows, and note what is lost."""
        token, primary = self.token, view.primary
        if token is None or primary is None or primary.timeline is None:
            return
        if token.timeline >= primary.timeline:
            return
        settled = settle(token, timeline=primary.timeline, ends=primary.ends)
        self.token = settled.token
        self.lost = worst(self.lost, settled.lost)

    def read_at(self, position: Position, *, cluster: int) -> None:
        """Count in all that a node of ``cluster`` showed at ``position``."""
        if self._is_known(position, cluster):
            return
        ahead = position.lsn if position.in_recovery else Lsn(0)
        self._advance(
            SessionToken(
                cluster, position.timeline, position.lsn, self._this_second(), ahead=ahead
            ),
        )

    def _this_second(self) -> datetime:
        # So that all who read the same within it are told the same, which is signed once.
        return self._clock.now().replace(microsecond=0)

    def _is_known(self, position: Position, cluster: int) -> bool:
        # Nothing new, and what the client holds is good for long enough.
        known = self.token
        return (
            known is not None
            and known.cluster == cluster
            and known.timeline == position.timeline
            and (known.ahead if position.in_recovery else known.position) >= position.lsn
            and self._clock.now() - known.issued_at < YOUNG
        )

    def wrote_at(self, commit: Commit, *, cluster: int) -> None:
        """Count in a commit of this request's own."""
        self.wrote = True
        span = Span(commit.start, commit.end)
        self._advance(
            SessionToken(cluster, commit.timeline, commit.end, self._clock.now(), span),
        )

    def _advance(self, seen: SessionToken) -> None:
        known = self.token
        if known is None or known.cluster != seen.cluster:
            self.token = seen  # another cluster's token says nothing here
            return
        self._note_unsettled(known, seen)
        self.token = merge(known, seen)

    def _note_unsettled(self, known: SessionToken, seen: SessionToken) -> None:
        # This request met a primary that no view knows yet: what it left behind is not known.
        if seen.timeline > known.timeline:
            self.lost = self.lost or (Lost.WRITE_UNKNOWN if known.wrote else Lost.READ)
