"""How old the data was that reads showed, as far as it can be known from outside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import ceil

from viral_engine.operations.drills.history import Kind, Operation, Outcome, Value
from viral_engine.operations.drills.versions import Versions

__all__ = ["Staleness", "staleness_by_region"]


@dataclass(frozen=True, slots=True)
class Staleness:
    """How stale the reads of one region were, at least; zero for one that may have been current."""

    reads: int
    median: timedelta
    p99: timedelta
    longest: timedelta


def staleness_by_region(history: Iterable[Operation], versions: Versions) -> dict[str, Staleness]:
    """Return a lower bound of the staleness of reads, by the region that served them.

    A read was stale for as long as a later version had been acknowledged before it was called. What
    was read of a lost branch is left out: it has no age.
    """
    operations = list(history)
    later = _acknowledged_later(operations, versions)
    ages: dict[str, list[int]] = {}
    for read in operations:
        if read.kind is Kind.READ and read.outcome is Outcome.OK:
            since = later.get((read.key, read.found))
            if since is not None:
                age = 0 if since < 0 else max(0, read.called_at - since)
                ages.setdefault(read.region_served, []).append(age)
    return {region: _summary(sorted(found)) for region, found in sorted(ages.items())}


def _acknowledged_later(
    operations: Iterable[Operation], versions: Versions
) -> dict[tuple[str, Value], int]:
    """Return for each surviving version when a later one was first acknowledged; -1 for never."""
    acknowledged = {
        (one.key, one.written): one.returned_at
        for one in operations
        if one.kind is not Kind.READ and one.outcome is Outcome.OK and one.returned_at is not None
    }
    found: dict[tuple[str, Value], int] = {}
    for key, chain in versions.kept.items():
        first = -1
        for value in reversed(chain):
            found[key, value] = first
            at = acknowledged.get((key, value))
            if at is not None:
                first = at if first < 0 else min(first, at)
    return found


def _summary(ages_ns: Sequence[int]) -> Staleness:
    def rank(share: float) -> timedelta:
        return timedelta(microseconds=ages_ns[ceil(share * len(ages_ns)) - 1] / 1000)

    return Staleness(len(ages_ns), median=rank(0.5), p99=rank(0.99), longest=rank(1.0))
