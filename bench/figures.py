"""What was measured, and whether it was: pure values and the rules that judge them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

MOST_DROPPED = 0.001
"""Share of requests that k6 may fail to send in time before the rate was not the stated one."""

MOST_FAILED = 0.01
LEAST_SENT = 0.99
LEAST_SERVED_THERE = 0.99

MOST_WAITING_MS = 1.0
"""A request whose sender waits longer than this for a CPU measures the machine, not the globe."""

MOST_HUB_WAITING = 0.1
"""Share of the run that the simulated network may wait for a CPU; above, distances are too long."""


class State(StrEnum):
    """What a measurement says about a promise."""

    KEPT = "kept"
    BROKEN = "broken"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Quantiles:
    """How long requests took, in milliseconds; None where there were none."""

    count: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None


@dataclass(frozen=True, slots=True)
class Seen:
    """What k6 saw of one arm; ``read_by`` and ``written_by`` count answers by region."""

    reads: Quantiles
    writes: Quantiles
    read_by: Mapping[str, int]
    written_by: Mapping[str, int]
    failed: int
    dropped: int

    @property
    def count(self) -> int:
        """All requests that were answered, or not in time."""
        return self.reads.count + self.writes.count


@dataclass(frozen=True, slots=True)
class Effort:
    """CPU seconds that a process used, and those it waited for one; None: the kernel hides it."""

    cpu_s: float
    waited_s: float | None
    elapsed_s: float

    @property
    def share(self) -> float:
        """Cores that it kept busy."""
        return self.cpu_s / self.elapsed_s if self.elapsed_s else 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One arm under one load: what was asked, what was seen and what that took."""

    asked: int
    served_by: str
    seen: Seen
    k6: Effort
    hub: Effort

    def doubts(self) -> tuple[str, ...]:
        """Every reason why this was no measurement; empty when it was one."""
        return (*self._doubts_about_load(), *self._doubts_about_machine(), *self._doubts_of_place())

    def _doubts_about_load(self) -> list[str]:
        seen, found = self.seen, []
        if seen.dropped > MOST_DROPPED * self.asked:
            found.append(f"k6 dropped {seen.dropped} of {self.asked} requests")
        if seen.count < LEAST_SENT * self.asked:
            found.append(f"k6 sent {seen.count} of {self.asked} requests")
        if seen.failed > MOST_FAILED * max(seen.count, 1):
            found.append(f"{seen.failed} of {seen.count} requests failed")
        return found

    def _doubts_about_machine(self) -> list[str]:
        if self.k6.waited_s is None or self.hub.waited_s is None:
            return ["the kernel does not tell whether k6 and the network waited for a CPU"]
        found = []
        waited_ms = 1000 * self.k6.waited_s / max(self.seen.count, 1)
        if waited_ms > MOST_WAITING_MS:
            found.append(f"k6 was starved: it waited {waited_ms:.1f} ms a request for a CPU")
        if self.hub.waited_s > MOST_HUB_WAITING * self.hub.elapsed_s:
            share = self.hub.waited_s / self.hub.elapsed_s
            found.append(f"the network was starved: it waited for a CPU {share:.0%} of the time")
        return found

    def _doubts_of_place(self) -> list[str]:
        place = self.served_by
        found = []
        for what, answered, by in (
            ("reads", self.seen.reads.count, self.seen.read_by),
            ("writes", self.seen.writes.count, self.seen.written_by),
        ):
            wanted = place if what == "reads" else None
            there = by.get(wanted, 0) if wanted else sum(by.values())
            if there < LEAST_SERVED_THERE * answered:
                found.append(f"{there} of {answered} {what} were answered by {wanted or 'anybody'}")
        return found


@dataclass(frozen=True, slots=True)
class Verdict:
    """A promise, whether it was kept, and why not or why that is not known."""

    state: State
    reasons: tuple[str, ...] = ()


def ratio(slow: float | None, fast: float | None) -> float | None:
    """How many times ``slow`` is ``fast``; None where either is missing or nothing."""
    return slow / fast if slow and fast else None


def judge_reads(near: Measured, far: Measured, *, least: float) -> Verdict:
    """Kept when the median of ``near`` is at least ``least`` times lower than that of ``far``.

    Unknown, whatever the figures say, when either was no measurement.
    """
    doubts = tuple(
        f"{arm}: {doubt}" for arm, one in (("A", near), ("B", far)) for doubt in one.doubts()
    )
    times = ratio(far.seen.reads.p50_ms, near.seen.reads.p50_ms)
    if doubts or times is None:
        return Verdict(State.UNKNOWN, doubts or ("there were no reads",))
    if times < least:
        return Verdict(State.BROKEN, (f"{times:.1f} times, and {least:g} were promised",))
    return Verdict(State.KEPT)


def judge_at_most(value: float, most: float) -> Verdict:
    """Kept when ``value`` is not above ``most``."""
    if value > most:
        return Verdict(State.BROKEN, (f"{value / most:.2f} times what is aimed at",))
    return Verdict(State.KEPT)
