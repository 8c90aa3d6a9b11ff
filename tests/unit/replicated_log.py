"""A primary's log, its replicas at any position, and failovers that lose the end of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from viral_engine.cluster.view import Answer
from viral_engine.lsn import Lsn
from viral_engine.operations.drills.history import Value
from viral_engine.operations.drills.versions import Versions

CLUSTER = 7
RECORD = 100


@dataclass(frozen=True)
class Entry:
    """A committed row: where its record ends in the log."""

    end: int
    key: str
    value: Value


@dataclass
class Timeline:
    """One branch of the log, what it inherited included; ``ends`` is its history file."""

    number: int
    entries: list[Entry]
    head: int
    ends: Mapping[int, int]
    inherited: int = 0


@dataclass
class Node:
    """A region's database. ``upstream`` is the timeline of the primary that it streams from."""

    region: str
    timeline: int = 1
    position: int = 0
    is_primary: bool = False
    is_up: bool = True
    is_streaming: bool = True


class MoveKind(StrEnum):
    """What happens in the cluster, with nobody asking for it."""

    REPLAY = "replay"
    STOP = "stop"
    CUT = "cut"
    PROMOTE = "promote"
    FOLLOW = "follow"
    REBUILD = "rebuild"


@dataclass(frozen=True)
class Move:
    """One move of the node of a region; ``share`` is how far a replay gets, in percent."""

    kind: MoveKind
    region: str
    share: int = 100


@dataclass
class Cluster:
    """The databases as they are, whatever anybody sees of them."""

    regions: Sequence[str]
    failovers: int = 0
    timelines: dict[int, Timeline] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.timelines[1] = Timeline(1, [], RECORD, {})
        self.nodes = {region: Node(region, position=RECORD) for region in self.regions}
        self.nodes[self.regions[0]].is_primary = True

    @property
    def newest(self) -> int:
        return max(self.timelines)

    @property
    def primaries(self) -> list[Node]:
        """Whoever would take a write: after a promotion the former one too, until it is rebuilt."""
        return [node for node in self.nodes.values() if node.is_primary and node.is_up]

    def head(self, node: Node) -> int:
        return self.timelines[node.timeline].head if node.is_primary else node.position

    def answer(self, region: str) -> Answer | None:
        """Return what the region's node says of itself, None where it does not answer."""
        node = self.nodes[region]
        if not node.is_up:
            return None
        ends = self.timelines[node.timeline].ends if node.is_primary else {}
        return Answer(
            in_recovery=not node.is_primary,
            timeline=node.timeline,
            lsn=Lsn(self.head(node)),
            lag_seconds=0.0 if node.is_primary or node.is_streaming else None,
            cluster=CLUSTER,
            ends={timeline: Lsn(end) for timeline, end in ends.items()},
        )

    def find(self, node: Node, key: str) -> Value:
        """Return what the node shows of a key now."""
        log, at = self.timelines[node.timeline].entries, self.head(node)
        return next((one.value for one in reversed(log) if one.key == key and one.end <= at), None)

    def commit(self, node: Node, key: str, value: Value, *, others: bool) -> tuple[Lsn, Lsn]:
        """Append a row and return the positions before and after, with others' log in between."""
        log = self.timelines[node.timeline]
        start = log.head
        log.head += RECORD * (1 + others)
        log.entries.append(Entry(log.head, key, value))
        log.head += RECORD * others
        return Lsn(start), Lsn(log.head)

    def move(self, move: Move) -> None:
        """Let it happen, where it can."""
        node = self.nodes[move.region]
        if move.kind is MoveKind.REPLAY:
            self._replay(node, move.share)
        elif move.kind is MoveKind.STOP:
            node.is_up = False
        elif move.kind is MoveKind.CUT:
            node.is_streaming = node.is_primary
        elif move.kind is MoveKind.PROMOTE:
            self._promote(node)
        elif move.kind is MoveKind.FOLLOW:
            self._follow(node)
        else:
            self._rebuild(node)

    def _upstream(self) -> Node | None:
        return next((one for one in self.primaries if one.timeline == self.newest), None)

    def _replay(self, node: Node, share: int) -> None:
        source = self._upstream()
        if (
            source
            and node.is_streaming
            and not node.is_primary
            and node.timeline == source.timeline
        ):
            node.position += (self.head(source) - node.position) * share // 100

    def _promote(self, node: Node) -> None:
        """Make a primary of a node, however far behind, that stood by the last one.

        One that is stuck on a lost branch is no candidate: it was nobody's synchronous standby.
        """
        if node.is_primary or not node.is_up or node.timeline != self.newest:
            return
        old, switch = self.timelines[node.timeline], node.position
        entries = [one for one in old.entries if one.end <= switch]
        new = Timeline(
            number=self.newest + 1,
            entries=entries,
            head=switch + RECORD // 2,
            # A node that follows but has not yet replayed the last switch leaves before that.
            ends={
                **{ended: min(end, switch) for ended, end in old.ends.items()},
                old.number: switch,
            },
            inherited=len(entries),
        )
        self.timelines[new.number] = new
        node.timeline, node.is_primary = new.number, True
        self.failovers += 1
        for other in self.nodes.values():
            other.is_streaming = False

    def _follow(self, node: Node) -> None:
        """Stream from the newest primary, unless the node has replayed what that never had."""
        source = self._upstream()
        if source is None or node.is_primary or not node.is_up:
            return
        end = self.timelines[source.timeline].ends.get(node.timeline)
        if node.timeline == source.timeline or (end is not None and node.position <= end):
            node.timeline, node.is_streaming = source.timeline, True

    def _rebuild(self, node: Node) -> None:
        """Make a replica of the newest primary out of what was stopped, stuck or outvoted."""
        source = self._upstream()
        if source is not None and source is not node:
            node.position = self.timelines[source.timeline].head
            node.timeline, node.is_primary = source.timeline, False
            node.is_up = node.is_streaming = True

    def versions(self) -> Versions:
        """Return every version of every key: those of the newest timeline survived."""
        survived = set(self.timelines[self.newest].entries)
        kept: dict[str, list[Value]] = {}
        for one in self.timelines[self.newest].entries:
            kept.setdefault(one.key, []).append(one.value)
        lost: dict[str, list[list[Value]]] = {}
        for _, log in sorted(self.timelines.items()):
            before: dict[str, Value] = {one.key: one.value for one in log.entries[: log.inherited]}
            open_branches: dict[str, list[Value]] = {}
            for one in log.entries[log.inherited :]:
                if one not in survived:
                    branch = open_branches.setdefault(one.key, [before.get(one.key)])
                    branch.append(one.value)
                before[one.key] = one.value
            for key, branch in open_branches.items():
                lost.setdefault(key, []).append(branch)
        return Versions(kept, lost)
