"""What users saw of a drill, request by request, and the figures that follow from it. Pure.

All times are seconds from the beginning of the load. A request counts from when it was due, which
an open load decides and not the answer before it; a slot that no user was free for is dropped, and
a failure.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, inf
from operator import itemgetter
from statistics import median
from typing import Any

__all__ = [
    "KINDS",
    "READ",
    "STRONG_READ",
    "WRITE",
    "Sample",
    "Window",
    "failed_share",
    "gap_around",
    "longest_gap",
    "quantile_ms",
    "read_samples",
    "reasons",
    "set_apart",
    "time_to_write",
    "with_dropped",
]

READ, STRONG_READ, WRITE = "read-eventual", "read-strong", "write"
KINDS = (READ, STRONG_READ, WRITE)

MIX = (READ, WRITE, READ, READ, STRONG_READ, READ, WRITE, READ, READ, WRITE)
"""What ten slots ask for, one after the other."""

LED_ELSEWHERE_WITHIN = 3.5
"""Seconds after which the users of a lost edge are led to another one: 3 from when the fault is in
force, and what putting it in force takes."""

FOUND_AGAIN_WITHIN = 10.0
"""Seconds after which users are led back to an edge that lives again, over connections that do too."""

HELD_S = 1.0
"""A write that takes so much longer than it did in the calm was held."""


@dataclass(frozen=True, slots=True)
class Window:
    """A span of seconds from ``begins`` until before ``ends``."""

    begins: float
    ends: float

    def holds(self, at: float) -> bool:
        """Tell whether a moment lies in it."""
        return self.begins <= at < self.ends


@dataclass(frozen=True, slots=True)
class Sample:
    """One request of the load; ``ok`` is of the first attempt, ``at_last`` after one retry.

    Only what had no answer at all is tried again. ``apart`` marks one that was under way at an edge
    that was lost. One that was ``dropped`` was never sent. ``edge`` is the region of the one that it
    was answered by.
    """

    region: str
    kind: str
    due: float
    ended: float
    ok: bool
    status: int = 0
    reason: str = ""
    served: str = ""
    edge: str = ""
    retried: bool = False
    at_last: bool = False
    dropped: bool = False
    apart: bool = False
    name: str = ""

    @property
    def failed(self) -> bool:
        """Whether it counts as a failure: sent or not, unless it is counted apart."""
        return not self.ok and not self.apart

    @property
    def latency_ms(self) -> float:
        """From when it was due."""
        return 1000 * (self.ended - self.due)


def read_samples(lines: Iterable[str], *, region: str, rate: float, zero_ms: float) -> list[Sample]:
    """Read what load.js leaves; ``zero_ms`` is the beginning of the load on its clock.

    A last line that was cut short is passed over. One that began so late that it counts itself to
    the next slot is given the one before, where nobody has that.
    """
    found: list[Sample] = []
    ordered = sorted(_whole(lines), key=itemgetter("sent"))
    for raw, slot in zip(ordered, _slots([one["slot"] for one in ordered]), strict=True):
        began = (raw["began"] - zero_ms) / 1000
        found.append(
            Sample(
                region=region, kind=raw["kind"], due=began + slot / rate,
                ended=began + raw["ended"] / 1000, ok=raw["ok"], status=raw["status"],
                reason=raw["reason"], served=raw["served"], edge=raw["edge"],
                retried=raw["retried"],
                at_last=raw["at_last"], name=raw["name"],
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: one.due)


def _slots(counted: Sequence[int]) -> list[int]:
    """Return to which slot each belongs, of those that they counted themselves to, in their order."""
    slots: list[int] = []
    holders: dict[int, int] = {}
    for number, slot in enumerate(counted):
        if slot > 0 and slot in holders and slot - 1 not in holders:
            holders[slot - 1] = holders[slot]
            slots[holders[slot]] = slot - 1
        holders[slot] = number
        slots.append(slot)
    return slots


def _whole(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        with suppress(ValueError):
            yield json.loads(line)


def with_dropped(
    samples: Sequence[Sample], *, region: str, rate: float, seconds: float
) -> list[Sample]:
    """Return the samples with every slot that was due and has none: dropped when it was due."""
    begins = min((one.due for one in samples), default=0.0)
    slots = {round((one.due - begins) * rate) for one in samples}
    missing = [
        Sample(
            region, MIX[slot % len(MIX)], due=at, ended=at, ok=False, reason="dropped", dropped=True
        )
        for slot in range(round(rate * seconds))
        if slot not in slots
        for at in [begins + slot / rate]
    ]
    return sorted([*samples, *missing], key=lambda one: one.due)


def set_apart(
    samples: Iterable[Sample], *, lost: frozenset[str], cut_off: frozenset[str], fault: Window
) -> list[Sample]:
    """Return the samples with those set apart that had no surviving edge to go to.

    Users of a lost edge are led to another one within 3 s, and back when it lives again: either way
    what is under way has no answer. After that it is set apart unless the answers before and after
    it came by one surviving edge. Those that are cut off with their region have none until it is
    healed.
    """
    samples = list(samples)
    leaving = Window(fault.begins, fault.begins + LED_ELSEWHERE_WITHIN)
    returning = Window(fault.ends, fault.ends + FOUND_AGAIN_WITHIN)
    edges = {
        region: sorted((s.due, s.edge) for s in samples if s.region == region and s.status)
        for region in lost
    }

    def entered_by(one: Sample) -> set[str]:
        answered = edges[one.region]
        place = bisect_right(answered, one.due, key=itemgetter(0))
        return {edge for _, edge in answered[max(0, place - 1) : place + 1]}

    def is_apart(one: Sample) -> bool:
        if one.ok or one.ended < fault.begins:
            return False
        if one.region in cut_off:
            return one.due < fault.ends + LED_ELSEWHERE_WITHIN
        # Whatever was answered came by an edge that lives.
        if one.region not in lost or one.status != 0 or one.dropped:
            return False
        if one.due < leaving.ends:
            return True
        was_elsewhere = entered_by(one)
        stayed = len(was_elsewhere) == 1 and not was_elsewhere & lost
        return one.ended >= returning.begins and one.due < returning.ends and not stayed

    return [replace(one, apart=True) if is_apart(one) else one for one in samples]


def failed_share(samples: Sequence[Sample]) -> float | None:
    """Return the share of requests that failed; None where there were none."""
    return sum(one.failed for one in samples) / len(samples) if samples else None


def quantile_ms(samples: Iterable[Sample], share: float) -> float | None:
    """Return a quantile of the time to an answer, counted from when it was due; exact, by rank."""
    taken = sorted(one.latency_ms for one in samples if not one.dropped)
    return round(taken[ceil(share * len(taken)) - 1], 1) if taken else None


def reasons(samples: Iterable[Sample]) -> dict[str, int]:
    """Count failures by status and reason."""
    return dict(
        Counter(
            one.reason if one.dropped else f"{one.status or 'no answer'} {one.reason}".strip()
            for one in samples
            if one.failed
        ).most_common()
    )


@dataclass(frozen=True, slots=True)
class Gap:
    """A span without a success: between two, before the first, or after the last until the end."""

    begins: float
    ends: float

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.ends - self.begins


def _gaps(samples: Iterable[Sample], *, until: float) -> Iterator[Gap]:
    asked = list(samples)
    if not asked:
        return
    ends = [0.0, *sorted(one.ended for one in asked if one.ok)]
    for one, other in pairwise(ends):
        yield Gap(one, other)
    if ends[-1] < until:
        yield Gap(ends[-1], until)


def longest_gap(samples: Iterable[Sample], *, until: float) -> float | None:
    """Return the longest time without a success, ``until`` the end; None where nobody asked."""
    return max((gap.seconds for gap in _gaps(samples, until=until)), default=None)


def gap_around(samples: Iterable[Sample], window: Window, *, until: float) -> Gap | None:
    """Return the longest gap that reaches into the window; None where nobody asked."""
    reaching = [
        gap
        for gap in _gaps(samples, until=until)
        if gap.ends > window.begins and gap.begins < window.ends
    ]
    return max(reaching, key=lambda gap: gap.seconds, default=None)


def time_to_write(samples: Sequence[Sample], window: Window, *, until: float) -> float | None:
    """Return the seconds from the first failed or held write to the first that succeeded again.

    None where no write failed and none was held; infinite where none succeeded again.
    """
    writes = [one for one in samples if one.kind == WRITE and not one.apart]
    calm = [one.ended - one.due for one in writes if one.ok and one.ended < window.begins]
    usual = median(calm) if calm else 0.0
    gap = gap_around(writes, window, until=until)
    if gap is None:
        return None
    hit = [
        one.due
        for one in writes
        if gap.begins - HELD_S < one.due < gap.ends
        and one.ended >= window.begins
        and (not one.ok or one.ended - one.due > usual + HELD_S)
    ]
    if not hit:
        return None
    return (gap.ends if any(one.ok and one.ended >= gap.ends for one in writes) else inf) - min(hit)
