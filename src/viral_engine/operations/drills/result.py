"""What a drill found, as frozen values and as the JSON that programs and the page read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from math import isfinite
from typing import Any

from viral_engine.operations.drills.verdict import Ruling
from viral_engine.operations.drills.witness import Seen

__all__ = [
    "Check",
    "LoadFigures",
    "Mark",
    "Requests",
    "Result",
    "Series",
    "WorkloadResult",
    "as_json",
    "worst",
]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold: what was asked for, what was measured, and how it was ruled."""

    name: str
    ruling: Ruling
    target: str = ""
    measured: str = ""
    why: str = ""
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """The load as it was asked for, and what it took; the CPU's as shares of one and of all."""

    rate_per_s: float
    vus: int
    duration_s: float
    scheduled: int = 0
    dropped: int = 0
    generator_cpu: float | None = None
    idle_cpu: float | None = None


@dataclass(frozen=True, slots=True)
class WindowFigures:
    """Requests that were due while the fault lasted, and shortly after."""

    scheduled: int
    failed: int
    error_rate: float | None


@dataclass(frozen=True, slots=True)
class Requests:
    """All requests of one kind by the users of one region."""

    region: str
    kind: str
    scheduled: int
    ok: int
    failed: int
    dropped: int
    in_flight_at_lost_edge: int
    error_rate: float
    window: WindowFigures
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    longest_gap_s: float | None
    reasons: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that the story did, in seconds from the beginning of the load."""

    at_s: float
    what: str


@dataclass(frozen=True, slots=True)
class Series:
    """Requests of one kind by the users of one region, in equal steps of time."""

    region: str
    kind: str
    ok: tuple[int, ...]
    failed: tuple[int, ...]
    p95_ms: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class RoleSpan:
    """What a database was, from when to when."""

    from_s: float
    to_s: float
    role: str


@dataclass(frozen=True, slots=True)
class Roles:
    """The roles of a region's database, one after the other."""

    region: str
    spans: tuple[RoleSpan, ...]


@dataclass(frozen=True, slots=True)
class Lag:
    """Bytes that a region's replica had not replayed, at moments; None where nobody knows."""

    region: str
    points: tuple[tuple[float, int | None], ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """What happened in time."""

    bucket_s: float
    series: tuple[Series, ...] = ()
    roles: tuple[Roles, ...] = ()
    lag: tuple[Lag, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkloadResult:
    """What one consistency workload found."""

    name: str
    verdict: Ruling
    why: str
    operations: int
    at_stake: Mapping[str, int]
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """Everything that one drill found."""

    drill: str
    sentence: str
    seed: int
    verdict: Ruling
    why: str
    load: LoadFigures
    network: str = ""
    regions: tuple[str, ...] = ()
    primary: str = ""
    started_at: str = ""
    rto_seconds: float | None = None
    rpo_writes: int | None = None
    error_rate: float | None = None
    error_rate_in_window: float | None = None
    checks: tuple[Check, ...] = ()
    requests: tuple[Requests, ...] = ()
    marks: tuple[Mark, ...] = ()
    timeline: Timeline = field(default_factory=lambda: Timeline(0.5))
    workloads: tuple[WorkloadResult, ...] = ()
    witnesses: tuple[Seen, ...] = ()


def as_json(value: Any) -> Any:
    """Return a value of this module as JSON holds it; what is infinite has no number there."""
    if is_dataclass(value) and not isinstance(value, type):
        return as_json(asdict(value))
    if isinstance(value, Mapping):
        return {key: as_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    if isinstance(value, float) and not isfinite(value):
        return None
    return value


def worst(rulings: Iterable[Ruling]) -> Ruling:
    """Return the worst of some rulings: broken, else unknown; unknown where there are none."""
    given: Sequence[Ruling] = tuple(rulings)
    if Ruling.BROKEN in given:
        return Ruling.BROKEN
    return Ruling.UNKNOWN if Ruling.UNKNOWN in given or not given else Ruling.KEPT
