from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache

from viral_engine.cluster import ClusterView, NodeView, Role
from viral_engine.data.token import SessionToken
from viral_engine.lsn import Lsn

__all__ = ["MOVED", "Need", "Route", "RouteKind", "decide"]


MOVED = "moved"
"""The reason of what was sent to the primary's region and finds the primary elsewhere."""


class Need(StrEnum):
    """What a request asks of the data: near data may be old, the primary's is not.

    ``strong`` reads what every acknowledged write has left, ``primary`` writes.
    """

    NEAR = "near"
    STRONG = "strong"
    PRIMARY = "primary"


class RouteKind(StrEnum):
    """Where a request is served.

    ``local``: by this region's node. ``wait``: the same, once it has replayed what the client has
    seen. ``primary``: here, with the primary asked over the wire. ``replay``: in another region.
    ``degraded``: nowhere at the moment.
    """

    LOCAL = "local"
    WAIT = "wait"
    PRIMARY = "primary"
    REPLAY = "replay"
    DEGRADED = "degraded"


@dataclass(frozen=True)
class Route:
    """One decision and why; ``region`` is whose database serves it (None where none can).

    ``reason`` is one word with hyphens out of a fixed list, fit for a header, a log and a metric.
    ``waited_s`` is how long a replica was waited for. ``lapsed`` says that nothing there proves who
    the primary is, so that a strong read or write is as good as the database's own word.
    """

    kind: RouteKind
    reason: str
    region: str | None = None
    waited_s: float = 0.0
    lapsed: bool = False

    @cached_property
    def is_near(self) -> bool:
        """Whether this region's own node serves it."""
        return self.kind in {RouteKind.LOCAL, RouteKind.WAIT}

    @cached_property
    def may_be_old(self) -> bool:
        """Whether a replica serves it."""
        return self.is_near and self.reason in {"replica", "replica-behind"}

    @property
    def name(self) -> str:
        """The decision and its reason, without what is different each time."""
        return f"{self.kind}; reason={self.reason}"

    @cached_property
    def header(self) -> bytes:
        """The value of ``viral-route``."""
        return str(self).encode()

    def __str__(self) -> str:
        waited = f"; waited={self.waited_s:.4f}" if self.kind is RouteKind.WAIT else ""
        return f"{self.name}{waited}{'; lapsed=primacy' * self.lapsed}"


def decide(
    need: Need,
    *,
    here: str,
    view: ClusterView,
    replayed: bool = False,
    token: SessionToken | None = None,
    waited: bool = False,
    movable: bool = True,
) -> Route:
    """Return where a request is served, from what is known now.

    Near data comes from this region's node while that answers, streams or has no primary to stream
    from, and covers the client's ``token``; one that is behind is waited for, unless the request has ``waited``; else from the primary. Only
    without a primary is a read sent to another region, whose replica covers it. What needs the
    primary is served where the primary is, and sent there at most once: a request that was
    ``replayed`` and still finds the primary elsewhere is served here, never sent round again. That,
    and what is not ``movable``, such as a socket, asks the primary over the wire.
    """
    if need is Need.NEAR:
        near = _near(here, view, token, waited=waited)
        can_move = movable and not replayed and near.kind is RouteKind.DEGRADED
        return (_elsewhere(here, view, token) or near) if can_move else near
    primary = view.writable_region
    lapsed = not view.guarded
    if primary is None:
        return Route(RouteKind.DEGRADED, "no-primary" if view.primary is None else "no-primacy")
    if primary == here:
        return Route(RouteKind.LOCAL, "primary-here", here, lapsed=lapsed)
    reason = "strong" if need is Need.STRONG else "write"
    if not movable:
        return Route(RouteKind.PRIMARY, reason, primary, lapsed=lapsed)
    if replayed:
        return Route(RouteKind.PRIMARY, MOVED, primary, lapsed=lapsed)
    return Route(RouteKind.REPLAY, reason, primary)


def _near(here: str, view: ClusterView, token: SessionToken | None, *, waited: bool) -> Route:
    node = view.node(here)
    if node is None:
        why = "no-replica-here"
    elif not node.reachable:
        why = "replica-unreachable"
    elif node.role is Role.PRIMARY:
        return _route(RouteKind.LOCAL, "primary-here", here)
    elif token is None:
        if node.streaming or view.primary is None:
            return _route(RouteKind.LOCAL, "replica", here)
        # One that has just come back may show what was a minute ago, until it has read its own log.
        why = "replica-not-streaming"
    else:
        lacks = _why_not_covered(node, view, token)
        if lacks is None:
            return _route(RouteKind.LOCAL, "replica", here)
        if lacks == "replica-behind" and not waited:
            return _route(RouteKind.WAIT, "replica-behind", here)
        why = lacks
    if view.primary_region is None:
        return _route(RouteKind.DEGRADED, f"{why}-and-no-primary")
    return _route(RouteKind.PRIMARY, why, view.primary_region)


def _elsewhere(here: str, view: ClusterView, token: SessionToken | None) -> Route | None:
    """Return the way to the replica of another region that covers a read, the furthest one."""
    others = [
        node
        for node in view.nodes
        if node.region != here
        and node.role is Role.REPLICA
        and (token is None or _why_not_covered(node, view, token) is None)
    ]
    if not others:
        return None
    furthest = max(others, key=lambda node: (node.timeline or 0, node.lsn or Lsn(0), node.region))
    return _route(RouteKind.REPLAY, "replica-elsewhere", furthest.region)


def _why_not_covered(node: NodeView, view: ClusterView, token: SessionToken) -> str | None:
    """Return what a replica lacks for a token; None where it shows all that the client has seen.

    While a primary is known, only a replica that streams the primary's own timeline covers
    anything. Without one, a replica still covers what it had replayed of the token's timeline.
    """
    primary = view.primary
    follows = primary is None or (node.streaming and node.timeline == primary.timeline)
    if not follows or node.cluster != token.cluster:
        return "replica-not-streaming"
    if node.timeline != token.timeline:
        return "timeline-changed"
    if node.lsn is None or node.lsn < token.position:
        return "replica-behind"
    return None


@lru_cache(maxsize=256)
def _route(kind: RouteKind, reason: str, region: str | None = None) -> Route:
    # There are few of them and every read takes one, with its header made once.
    return Route(kind, reason, region)
