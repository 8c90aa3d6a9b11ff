from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from viral_engine.cluster import ClusterView

__all__ = ["Need", "Route", "RouteKind", "decide"]


class Need(StrEnum):
    """What a request asks of the data: near data may be old, the primary's is not."""

    NEAR = "near"
    PRIMARY = "primary"


class RouteKind(StrEnum):
    """Where a request is served.

    ``local``: by this region's node. ``primary``: here, with the primary asked over the wire.
    ``replay``: in the primary's region. ``degraded``: nowhere at the moment.
    """

    LOCAL = "local"
    PRIMARY = "primary"
    REPLAY = "replay"
    DEGRADED = "degraded"


@dataclass(frozen=True, slots=True)
class Route:
    """One decision and why; ``region`` is whose database serves it (None where none can).

    ``reason`` is one word with hyphens out of a fixed list, fit for a header, a log and a metric.
    """

    kind: RouteKind
    reason: str
    region: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}; reason={self.reason}"


def decide(need: Need, *, here: str, view: ClusterView, replayed: bool = False) -> Route:
    """Return where a request is served, from what is known now.

    Near data comes from this region's node while that answers, else from the primary; it is never
    replayed, so a read survives the loss of either. What needs the primary is served where the
    primary is, and sent there at most once: a request that was ``replayed`` and still finds the
    primary elsewhere is refused, never sent round again.
    """
    primary = view.primary_region
    if need is Need.NEAR:
        return _near(here, view)
    if primary is None:
        return Route(RouteKind.DEGRADED, "no-primary")
    if primary == here:
        return Route(RouteKind.LOCAL, "primary-here", here)
    if replayed:
        return Route(RouteKind.DEGRADED, "replayed-already", primary)
    return Route(RouteKind.REPLAY, "write", primary)


def _near(here: str, view: ClusterView) -> Route:
    node = view.node(here)
    if node is not None and node.reachable:
        is_primary = view.primary_region == here
        return Route(RouteKind.LOCAL, "primary-here" if is_primary else "replica", here)
    why = "no-replica-here" if node is None else "replica-unreachable"
    if view.primary_region is None:
        return Route(RouteKind.DEGRADED, f"{why}-and-no-primary")
    return Route(RouteKind.PRIMARY, why, view.primary_region)
