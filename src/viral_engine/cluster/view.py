from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType

from viral_engine.lsn import Lsn

__all__ = ["Answer", "ClusterView", "NodeView", "Observation", "Role", "build_view"]

_NO_ENDS: Mapping[int, Lsn] = MappingProxyType({})


class Role(StrEnum):
    """What a database node said that it is."""

    PRIMARY = "primary"
    REPLICA = "replica"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one node said about itself.

    ``lag_seconds`` is None for a replica that receives nothing: it cannot know how old it is.
    ``cluster`` is PostgreSQL's system identifier, the same on a primary and all its replicas.
    ``guarded`` tells whether primacy is kept there at all, ``primacy_seconds`` how much of it was
    left. ``ends`` says where each timeline before a primary's own was left.
    """

    in_recovery: bool
    timeline: int
    lsn: Lsn
    lag_seconds: float | None
    cluster: int | None = None
    guarded: bool = False
    primacy_seconds: float | None = None
    ends: Mapping[int, Lsn] = field(default_factory=lambda: _NO_ENDS)

    @property
    def streaming(self) -> bool:
        """Whether this is a primary, or a replica that receives its log."""
        return self.lag_seconds is not None


@dataclass(frozen=True, slots=True)
class Observation:
    """The last attempt to ask the node of ``region``, at ``observed_at`` on a monotonic clock.

    ``answer`` is None where the node did not answer, and ``reason`` then says why.
    """

    region: str
    observed_at: float
    answer: Answer | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NodeView:
    """One region's database node as this machine sees it; nothing old is shown as if it held."""

    region: str
    role: Role
    timeline: int | None
    lsn: Lsn | None
    lag_seconds: float | None
    reachable: bool
    observed_at: float | None
    reason: str = ""
    cluster: int | None = None
    guarded: bool = False
    holds_primacy: bool = False
    ends: Mapping[int, Lsn] = field(default_factory=lambda: _NO_ENDS)

    @property
    def streaming(self) -> bool:
        """Whether this is a primary, or a replica that receives its log."""
        return self.reachable and self.lag_seconds is not None


@dataclass(frozen=True)
class ClusterView:
    """Every region's node, by region, and where the primary is (None: nobody answers as one).

    What follows from them is worked out once for a view, since every request asks for it.
    """

    primary_region: str | None
    nodes: tuple[NodeView, ...]

    def node(self, region: str) -> NodeView | None:
        """Return the node of ``region``, or None where that region has no database."""
        return self._by_region.get(region)

    def with_replayed(self, region: str, lsn: Lsn) -> ClusterView:
        """Return the same view with the replica of ``region`` seen further on, at ``lsn``."""
        nodes = (replace(one, lsn=lsn) if one.region == region else one for one in self.nodes)
        return ClusterView(self.primary_region, tuple(nodes))

    def without(self, region: str, *, reason: str) -> ClusterView:
        """Return the same view with the node of ``region`` silent, for somebody who found it so."""
        nodes = (
            _silent(region, one.observed_at, reason) if one.region == region else one
            for one in self.nodes
        )
        primary = None if region == self.primary_region else self.primary_region
        return ClusterView(primary, tuple(nodes))

    @cached_property
    def _by_region(self) -> Mapping[str, NodeView]:
        return {node.region: node for node in self.nodes}

    @cached_property
    def primary(self) -> NodeView | None:
        """The node that answers as the primary."""
        return None if self.primary_region is None else self.node(self.primary_region)

    @cached_property
    def writable_region(self) -> str | None:
        """Where writes are acknowledged: the primary's region, where it is not without primacy."""
        primary = self.primary
        if primary is None or (primary.guarded and not primary.holds_primacy):
            return None
        return primary.region

    @cached_property
    def guarded(self) -> bool:
        """Whether primacy is kept in this cluster; an external database has none."""
        return any(node.guarded for node in self.nodes)

    @cached_property
    def cluster(self) -> int | None:
        """The primary's cluster; without one, the only cluster that its nodes speak of."""
        if self.primary is not None:
            return self.primary.cluster
        known = {node.cluster for node in self.nodes if node.cluster is not None}
        return known.pop() if len(known) == 1 else None

    @cached_property
    def heads(self) -> Mapping[int, Lsn]:
        """How far the furthest of the nodes that answer has come, by timeline."""
        heads: dict[int, Lsn] = {}
        for node in self.nodes:
            if node.timeline is not None and node.lsn is not None:
                heads[node.timeline] = max(node.lsn, heads.get(node.timeline, node.lsn))
        return heads


def build_view(
    regions: Iterable[str], observations: Iterable[Observation], *, now: float, fresh_for: float
) -> ClusterView:
    """Return the view at ``now``; an observation older than ``fresh_for`` seconds counts as none.

    Where two nodes answer as primary, the one with the higher timeline was promoted later and is
    the primary; the other is shown as unreachable with that reason, since it serves a lost branch.
    On equal timelines neither can be trusted, and no primary is named.
    """
    by_region = {observation.region: observation for observation in observations}
    nodes = tuple(
        _node(region, by_region.get(region), now=now, fresh_for=fresh_for)
        for region in sorted(set(regions))
    )
    claimants = [node for node in nodes if node.role is Role.PRIMARY]
    newest = max((node.timeline or 0 for node in claimants), default=0)
    winners = [node.region for node in claimants if node.timeline == newest]
    primary = winners[0] if len(winners) == 1 else None
    return ClusterView(
        primary_region=primary,
        nodes=tuple(
            _outvoted(node) if node.role is Role.PRIMARY and node.region != primary else node
            for node in nodes
        ),
    )


def _node(
    region: str, observation: Observation | None, *, now: float, fresh_for: float
) -> NodeView:
    if observation is None:
        return _silent(region, None, "not asked yet")
    if observation.answer is None:
        return _silent(region, observation.observed_at, observation.reason)
    if now - observation.observed_at > fresh_for:
        return _silent(region, observation.observed_at, "last answer is too old")
    answer = observation.answer
    return NodeView(
        region=region,
        role=Role.REPLICA if answer.in_recovery else Role.PRIMARY,
        timeline=answer.timeline,
        lsn=answer.lsn,
        lag_seconds=answer.lag_seconds,
        reachable=True,
        observed_at=observation.observed_at,
        cluster=answer.cluster,
        guarded=answer.guarded,
        holds_primacy=(answer.primacy_seconds or 0) > 0,
        ends=answer.ends,
    )


def _silent(region: str, observed_at: float | None, reason: str) -> NodeView:
    return NodeView(
        region=region,
        role=Role.UNKNOWN,
        timeline=None,
        lsn=None,
        lag_seconds=None,
        reachable=False,
        observed_at=observed_at,
        reason=reason,
    )


def _outvoted(node: NodeView) -> NodeView:
    return _silent(node.region, node.observed_at, "another node claims to be the primary")
