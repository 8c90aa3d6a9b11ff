"""Figures of a drill from what users and databases answered: by region, by kind, in time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from viral_engine.operations.drills.probes import Probe, lag_points, role_spans
from viral_engine.operations.drills.result import (
    Lag,
    Requests,
    Roles,
    RoleSpan,
    Series,
    Timeline,
    WindowFigures,
)
from viral_engine.operations.drills.samples import (
    KINDS,
    Sample,
    Window,
    failed_share,
    longest_gap,
    quantile_ms,
    reasons,
)

__all__ = ["requests_of", "timeline_of"]

BUCKET_S = 0.5
LAG_EVERY_S = 0.5


def requests_of(
    samples: Sequence[Sample], regions: Iterable[str], *, window: Window, until: float
) -> tuple[Requests, ...]:
    """Return the figures of each region's users by kind."""
    return tuple(
        _requests(region, kind, found, window, until)
        for region in regions
        for kind in KINDS
        for found in [[s for s in samples if s.region == region and s.kind == kind]]
        if found
    )


def _requests(
    region: str, kind: str, samples: Sequence[Sample], window: Window, until: float
) -> Requests:
    inside = [one for one in samples if window.holds(one.due)]
    answered = [one for one in samples if one.ok]
    gap = longest_gap(answered, until=until)
    return Requests(
        region=region,
        kind=kind,
        scheduled=len(samples),
        ok=len(answered),
        failed=sum(one.failed for one in samples),
        dropped=sum(one.dropped for one in samples),
        in_flight_at_lost_edge=sum(one.apart for one in samples),
        error_rate=_rounded(failed_share(samples)) or 0.0,
        window=WindowFigures(
            len(inside), sum(one.failed for one in inside), _rounded(failed_share(inside))
        ),
        p50_ms=quantile_ms(answered, 0.5),
        p95_ms=quantile_ms(answered, 0.95),
        p99_ms=quantile_ms(answered, 0.99),
        max_ms=quantile_ms(answered, 1.0),
        longest_gap_s=None if gap is None else round(gap, 3),
        reasons=reasons(samples),
    )


def timeline_of(
    samples: Sequence[Sample],
    probes: Mapping[str, Sequence[Probe]],
    regions: Iterable[str],
    *,
    zero: int,
    seconds: float,
) -> Timeline:
    """Return what happened in steps of half a second; ``zero`` (ns) is the beginning of the load."""
    count = int(seconds / BUCKET_S) + 1
    return Timeline(
        bucket_s=BUCKET_S,
        series=tuple(
            _series(region, kind, found, count)
            for region in regions
            for kind in KINDS
            for found in [[s for s in samples if s.region == region and s.kind == kind]]
            if found
        ),
        roles=tuple(
            Roles(
                region,
                tuple(
                    RoleSpan(_seconds(one.begins, zero), _seconds(one.ends, zero), one.role)
                    for one in role_spans(found)
                ),
            )
            for region, found in probes.items()
        ),
        lag=tuple(
            Lag(region, tuple(lag_points(probes, region, zero=zero, every_s=LAG_EVERY_S)))
            for region in probes
        ),
    )


def _series(region: str, kind: str, samples: Iterable[Sample], count: int) -> Series:
    buckets: list[list[Sample]] = [[] for _ in range(count)]
    for one in samples:
        buckets[min(count - 1, max(0, int(one.due / BUCKET_S)))].append(one)
    return Series(
        region,
        kind,
        ok=tuple(sum(one.ok for one in bucket) for bucket in buckets),
        failed=tuple(sum(not one.ok for one in bucket) for bucket in buckets),
        p95_ms=tuple(quantile_ms(bucket, 0.95) for bucket in buckets),
    )


def _seconds(at: int, zero: int) -> float:
    return round((at - zero) / 1e9, 2)


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 6)
