"""The load of each region, from what its machines tell: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = ["Reading", "Sample", "measured"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one machine told: sums in request-seconds since its process began, ``up_s`` ago.

    ``entered_s`` is the part that came in by each region's edge, wherever it was served.
    """

    region: str
    up_s: float
    busy_s: float
    entered_s: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_facts(cls, region: str, facts: Mapping[str, Any]) -> Self:
        """Read the answer of ``viral node ctl load``; raises KeyError, TypeError or ValueError."""
        entered = {str(code): float(one) for code, one in dict(facts["entered_seconds"]).items()}
        return cls(region, float(facts["up_seconds"]), float(facts["busy_seconds"]), entered)


@dataclass(frozen=True, slots=True)
class Sample:
    """The mean number of requests at once in a region, over the ``over_s`` before ``at``.

    ``complete`` is whether every machine told; else ``load`` is what the others have, and more may
    be there.
    """

    at: float
    load: float
    complete: bool = True
    over_s: float = 0.0

    @property
    def since(self) -> float:
        """From when on it was looked at."""
        return self.at - self.over_s


def measured(
    region: str,
    serving: Iterable[str],
    before: Mapping[str, Reading],
    now: Mapping[str, Reading | None],
    *,
    at: float,
    over_s: float = 0.0,
) -> Sample:
    """Return the load of a region, between two looks at all machines of the app, by their ids.

    A machine that did not tell is None. Of a region where nothing is ``serving`` it is what came in
    by its edge and was served elsewhere.
    """
    here = tuple(serving)
    means = [_mean(before.get(machine), now.get(machine), None) for machine in here]
    if not here:
        means = [_mean(before.get(machine), now[machine], region) for machine in now]
    known = [mean for mean in means if mean is not None]
    return Sample(at, sum(known), complete=len(known) == len(means) > 0, over_s=over_s)


def _mean(before: Reading | None, now: Reading | None, edge: str | None) -> float | None:
    if before is None or now is None:
        return None
    if now.up_s <= before.up_s:  # it has begun anew since
        before = Reading(now.region, 0.0, 0.0)
    seconds = now.up_s - before.up_s
    return max(0.0, _sum(now, edge) - _sum(before, edge)) / seconds if seconds > 0 else None


def _sum(reading: Reading, edge: str | None) -> float:
    return reading.busy_s if edge is None else reading.entered_s.get(edge, 0.0)
