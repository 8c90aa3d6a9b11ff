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

LEAST_IDLE = 0.1
"""Share of this machine's CPUs that must be left over: on a full one every figure is a queue's."""

MOST_DELAY_MS = 0.5
"""Mean wait for a CPU, each time that k6 or the network wants one.

A request wants one a few times on its way: at this limit up to 2 of the some 8 ms that reads from
the region itself may take are the machine's. Measured: 0.1 on a calm machine, 0.6 beside six
programs that never rest.
"""


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
    """What a process used of the CPUs, and how late it got them; None where the kernel hides it."""

    elapsed_s: float
    cpu_s: float
    delay_ms: float | None
    waited_s: float | None = None

    @property
    def share(self) -> float:
        """Cores that it kept busy."""
        return self.cpu_s / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def waited_share(self) -> float | None:
        """Share of the time in which it could have run and had no CPU."""
        if self.waited_s is None or not self.elapsed_s:
            return None
        return self.waited_s / self.elapsed_s


@dataclass(frozen=True, slots=True)
class Measured:
    """One arm under one load: what was asked, what was seen and what that took.

    ``idle`` is the share of the machine's CPUs that nobody used meanwhile.
    """

    asked: int
    reads_from: str
    seen: Seen
    k6: Effort
    hub: Effort
    idle: float

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
        found = []
        if self.idle < LEAST_IDLE:
            found.append(f"this machine had only {self.idle:.0%} of its CPUs left")
        for who, effort in (("k6", self.k6), ("the network", self.hub)):
            if effort.delay_ms is None:
                found.append(f"the kernel does not tell how long {who} waited for a CPU")
            elif effort.delay_ms > MOST_DELAY_MS:
                found.append(f"{who} was starved: each time {effort.delay_ms:.1f} ms for a CPU")
        return found

    def _doubts_of_place(self) -> list[str]:
        place, answered = self.reads_from, self.seen.reads.count
        there = self.seen.read_by.get(place, 0)
        if there < LEAST_SERVED_THERE * answered:
            return [f"{place} answered {there} of {answered} reads"]
        return []


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
