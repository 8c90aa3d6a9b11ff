"""What the databases answered to whoever tried to write to each of them, and what follows. Pure."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from operator import itemgetter

from viral_engine.operations.drills.verdict import Finding, Ruling, Verdict

__all__ = ["ENOUGH", "Probe", "Span", "lag_points", "one_at_a_time", "read_probes", "role_spans"]

ENOUGH = 50
"""Answers of a node, silence included, below which nothing is known."""

GUARANTEE = "one-acknowledges"
NS = 1e9


@dataclass(frozen=True, slots=True)
class Probe:
    """One try at one database; times in nanoseconds of the clock that the whole machine shares.

    ``role`` is what it turned out to be; ``held`` whether a primary acknowledged, under primacy.
    """

    region: str
    sent: int
    answered: int
    role: str
    timeline: int | None = None
    lsn: int | None = None
    held: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """A role of a region, between two moments (ns)."""

    region: str
    begins: int
    ends: int
    role: str


def read_probes(lines: Iterable[str], region: str) -> list[Probe]:
    """Read what prober.py leaves; a last line that was cut short is passed over."""
    found: list[Probe] = []
    for line in lines:
        try:
            raw = json.loads(line)
        except ValueError:
            continue
        raw.pop("why", None)
        found.append(Probe(region=region, **raw))
    return found


def one_at_a_time(probes: Mapping[str, Sequence[Probe]]) -> Verdict:
    """Return whether no two nodes acknowledged writes during one span of time.

    A node's span on a timeline lasts from its first answer that acknowledged to when the last such
    try was sent: it was the primary at both. Unknown where a node was asked too seldom, or nobody
    acknowledged anything.
    """
    seldom = [region for region, found in probes.items() if len(found) < ENOUGH]
    reigns = [
        Span(
            region,
            min(one.answered for one in held),
            max(one.sent for one in held),
            f"timeline {timeline}",
        )
        for region, found in probes.items()
        for timeline in sorted({one.timeline or 0 for one in found if one.held})
        for held in [[one for one in found if one.held and one.timeline == timeline]]
    ]
    findings = tuple(
        Finding(
            GUARANTEE,
            f"{one.region} ({one.role}) and {other.region} ({other.role}) both acknowledged writes "
            f"for {(min(one.ends, other.ends) - max(one.begins, other.begins)) / NS:.3f} s",
        )
        for one, other in combinations(reigns, 2)
        if one.region != other.region and one.begins < other.ends and other.begins < one.ends
    )
    if findings:
        return Verdict(Ruling.BROKEN, findings)
    if seldom or not probes:
        return Verdict(Ruling.UNKNOWN, why=f"too few tries: {', '.join(seldom) or 'no database'}")
    if not reigns:
        return Verdict(Ruling.UNKNOWN, why="no try was acknowledged by any node")
    return Verdict(Ruling.KEPT)


def role_spans(probes: Iterable[Probe]) -> list[Span]:
    """Return who was what, from each change to the next; a primary without primacy is ``fenced``."""
    spans: list[Span] = []
    for one in sorted(probes, key=lambda probe: probe.answered):
        role = "fenced" if one.role == "primary" and not one.held else one.role
        if spans and spans[-1].role == role:
            last = spans.pop()
            spans.append(Span(one.region, last.begins, one.answered, role))
        else:
            if spans:
                last = spans.pop()
                spans.append(Span(last.region, last.begins, one.answered, last.role))
            spans.append(Span(one.region, one.answered, one.answered, role))
    return spans


def lag_points(
    probes: Mapping[str, Sequence[Probe]], region: str, *, zero: int, every_s: float
) -> list[tuple[float, int | None]]:
    """Return how many bytes of log a replica had not replayed, once in so many seconds.

    None while it was no replica, or there was no primary to compare with. Answers of two moments
    are compared, so that a tenth of a second of writes is the noise.
    """
    heads = sorted(
        (one.answered, one.lsn)
        for found in probes.values()
        for one in found
        if one.role == "primary" and one.lsn is not None
    )
    points: list[tuple[float, int | None]] = []
    for one in probes[region]:
        at = round((one.answered - zero) / NS, 2)
        if not points or at >= points[-1][0] + every_s:
            points.append((at, _lag(one, heads, oldest=one.answered - int(every_s * NS))))
    return points


def _lag(probe: Probe, heads: Sequence[tuple[int, int]], *, oldest: int) -> int | None:
    place = bisect_right(heads, probe.answered, key=itemgetter(0)) - 1
    if probe.role != "replica" or probe.lsn is None or place < 0 or heads[place][0] < oldest:
        return None
    return max(0, heads[place][1] - probe.lsn)
