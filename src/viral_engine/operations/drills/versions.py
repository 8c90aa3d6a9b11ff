"""In which order the versions of each key came, failovers included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from viral_engine.operations.drills.history import Value

__all__ = ["Versions"]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a version stands: how many came before it, and on which branch (0 is what survived)."""

    branch: int
    depth: int


class Versions:
    """The versions of each key as a tree: those that survived, and branches that were lost.

    ``kept`` has the surviving values of a key, oldest first, without ``initial``. Each branch of
    ``lost`` begins with the value that it grew from and goes on with the values that a failover
    took away; that value may itself be of an earlier branch. Take both from outside the database:
    a chain of revisions, or a log read at the end. Raises ValueError for a value that stands twice
    and for a branch that grows from nowhere.
    """

    def __init__(
        self,
        kept: Mapping[str, Sequence[Value]],
        lost: Mapping[str, Sequence[Sequence[Value]]] | None = None,
        *,
        initial: Value = None,
    ) -> None:
        self.initial = initial
        given = lost or {}
        self.kept = {key: (initial, *kept.get(key, ())) for key in {**kept, **given}}
        self._keys = {key: _Tree(key, chain) for key, chain in self.kept.items()}
        for key, branches in given.items():
            for branch in branches:
                self._keys[key].grow(branch)

    def knows(self, key: str, value: Value) -> bool:
        """Tell whether the value was ever a version of the key."""
        tree = self._keys.get(key)
        return value == self.initial if tree is None else value in tree.places

    def is_lost(self, key: str, value: Value) -> bool:
        """Tell whether a failover took the version away."""
        tree = self._keys.get(key)
        return tree is not None and tree.places[value].branch > 0

    def holds(self, key: str, value: Value, needed: Value) -> bool:
        """Tell whether a version is ``needed`` or came after it, on the same branch of history."""
        tree = self._keys.get(key)
        return tree is None or tree.holds(value, needed)

    def survivor(self, key: str, value: Value) -> Value:
        """Return the version itself, or the last one before it that survived."""
        tree = self._keys.get(key)
        return value if tree is None else tree.survivor(value)


@dataclass(slots=True)
class _Tree:
    key: str
    chain: Sequence[Value]
    places: dict[Value, _Place] = field(default_factory=dict)
    grown_from: list[_Place] = field(default_factory=lambda: [_Place(0, -1)])

    def __post_init__(self) -> None:
        for depth, value in enumerate(self.chain):
            self._put(value, _Place(0, depth))

    def _put(self, value: Value, place: _Place) -> None:
        if value in self.places:
            msg = f"{value!r} stands twice among the versions of {self.key!r}"
            raise ValueError(msg)
        self.places[value] = place

    def grow(self, branch: Sequence[Value]) -> None:
        root, *values = branch
        if root not in self.places:
            msg = f"a branch of {self.key!r} grows from {root!r}, which is not a version of it"
            raise ValueError(msg)
        from_here = self.places[root]
        self.grown_from.append(from_here)
        for depth, value in enumerate(values, start=from_here.depth + 1):
            self._put(value, _Place(len(self.grown_from) - 1, depth))

    def holds(self, value: Value, needed: Value) -> bool:
        place, wanted = self.places[value], self.places[needed]
        while place.branch > wanted.branch:
            place = self.grown_from[place.branch]
        return place.branch == wanted.branch and place.depth >= wanted.depth

    def survivor(self, value: Value) -> Value:
        place = self.places[value]
        while place.branch:
            place = self.grown_from[place.branch]
        return self.chain[place.depth]
