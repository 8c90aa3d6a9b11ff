"""The timeline of a drill: figures in, what is drawn where out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log10
from typing import Any

from viral_engine.operations.drills.paper import (
    LEFT,
    LETTER,
    RIGHT,
    WIDTH,
    Axis,
    Band,
    Label,
    Shape,
    Tick,
    labels,
    line,
    runs,
    steps,
)

__all__ = ["Chart", "Panel", "chart"]

HEAD, ROLE, GAP, FLOW, LATENCY, LAG, FOOT = 26.0, 18.0, 9.0, 74.0, 64.0, 30.0, 20.0
KINDS = ("write", "read-strong", "read-eventual")
FASTEST_MS, SLOWEST_MS = 1.0, 10_000.0


@dataclass(frozen=True, slots=True)
class Panel:
    """One region: its roles, its throughput, its latency and how far its replica was behind."""

    region: str
    top: float
    roles_y: float
    roles: Sequence[Band]
    flow_y: float
    flow: Sequence[Shape]
    latency_y: float
    latency: Sequence[Shape]
    latency_ticks: Sequence[Tick]
    lag_y: float
    lag: Sequence[Shape]
    most_lag: int | None
    bottom: float


@dataclass(frozen=True, slots=True)
class Chart:
    """The whole picture; ``silences`` are the times in which no write succeeded anywhere."""

    width: float
    height: float
    left: float
    right: float
    labels: Sequence[Label]
    panels: Sequence[Panel]
    silences: Sequence[Band]
    ticks: Sequence[Tick]
    top: float
    bottom: float
    most_per_s: float


def chart(report: Mapping[str, Any]) -> Chart | None:
    """Return the picture of a report's timeline; None where nothing was recorded."""
    timeline = report["timeline"]
    regions = _regions(report)
    time = Axis(_end(report), timeline["bucket_s"])
    if not regions or time.end <= 0:
        return None
    names, height = labels(report["marks"], time)
    most = _most_per_s(timeline)
    panels: list[Panel] = []
    top = height + GAP
    for region in regions:
        panels.append(_panel(region, timeline, time, top=top, most=most))
        top = panels[-1].bottom + GAP
    return Chart(
        width=WIDTH, height=top + FOOT, left=LEFT, right=WIDTH - RIGHT, labels=names,
        panels=panels, silences=_silences(timeline, time), ticks=time.ticks,
        top=height, bottom=top, most_per_s=most,
    )  # fmt: skip


def _regions(report: Mapping[str, Any]) -> list[str]:
    timeline = report["timeline"]
    known = {
        one["region"] for name in ("series", "roles", "lag") for one in timeline[name]
    }  # whoever is only a witness has nothing to show
    return [*(r for r in report["regions"] if r in known), *sorted(known - {*report["regions"]})]


def _end(report: Mapping[str, Any]) -> float:
    timeline = report["timeline"]
    ends = [len(one["ok"]) * timeline["bucket_s"] for one in timeline["series"]]
    ends += [span["to_s"] for one in timeline["roles"] for span in one["spans"]]
    ends += [mark["at_s"] for mark in report["marks"]]
    return float(max(ends, default=0.0))


def _panel(
    region: str, timeline: Mapping[str, Any], time: Axis, *, top: float, most: float
) -> Panel:
    series = _by_kind(timeline, region)
    points = [p for one in timeline["lag"] if one["region"] == region for p in one["points"]]
    most_lag = max((lag for _, lag in points if lag is not None), default=None)
    roles_y = top + HEAD
    flow_y = roles_y + ROLE + GAP
    latency_y = flow_y + FLOW + GAP
    lag_y = latency_y + LATENCY + GAP
    return Panel(
        region=region, top=top, roles_y=roles_y, roles=list(_roles(timeline, region, time)),
        flow_y=flow_y, flow=list(_flow(series, time, flow_y + FLOW, most)),
        latency_y=latency_y, latency=list(_latency(series, time, latency_y)),
        latency_ticks=[Tick(_slow_y(ms, latency_y), t) for ms, t in LATENCIES],
        lag_y=lag_y, lag=list(_lag(points, time, lag_y + LAG, most_lag or 1)),
        most_lag=most_lag, bottom=lag_y + (LAG if points else -GAP),
    )  # fmt: skip


LATENCIES = ((10, "10 ms"), (100, "100 ms"), (1000, "1 s"), (10_000, "10 s"))


def _by_kind(timeline: Mapping[str, Any], region: str) -> dict[str, Mapping[str, Any]]:
    of_region = {one["kind"]: one for one in timeline["series"] if one["region"] == region}
    return {kind: of_region[kind] for kind in (*KINDS, *of_region) if kind in of_region}


def _roles(timeline: Mapping[str, Any], region: str, time: Axis) -> Iterator[Band]:
    for one in timeline["roles"]:
        for span in one["spans"] if one["region"] == region else ():
            x = time.x(span["from_s"])
            width = round(time.x(span["to_s"]) - x, 1)
            role = str(span["role"])
            yield Band(x, width, role, role if width > len(role) * LETTER + 8 else "")


def _most_per_s(timeline: Mapping[str, Any]) -> float:
    totals: dict[tuple[str, int], int] = {}
    for one in timeline["series"]:
        for place, (ok, failed) in enumerate(zip(one["ok"], one["failed"], strict=True)):
            name = (one["region"], place)
            totals[name] = totals.get(name, 0) + ok + failed
    return max(totals.values(), default=0) / timeline["bucket_s"] or 1.0


def _flow(
    series: Mapping[str, Mapping[str, Any]], time: Axis, floor: float, most: float
) -> Iterator[Shape]:
    """Yield what succeeded, kind upon kind, and on top of it what failed."""
    count = max((len(one["ok"]) for one in series.values()), default=0)
    base = [0.0] * count
    failed = [0] * count
    for one in series.values():
        failed = [a + b for a, b in zip(failed, _filled(one["failed"], count), strict=True)]
    layers = [(kind, one["ok"]) for kind, one in series.items()] + [("failed", failed)]
    for kind, counts in layers:
        upper = [a + b for a, b in zip(base, _filled(counts, count), strict=True)]
        scale = FLOW / (most * time.bucket)
        if upper != base:
            yield Shape(kind, steps(base, upper, time, floor, scale))
        base = upper


def _filled(counts: Sequence[int], count: int) -> list[int]:
    return [*counts, *[0] * (count - len(counts))]


def _latency(series: Mapping[str, Mapping[str, Any]], time: Axis, top: float) -> Iterator[Shape]:
    for kind, one in series.items():
        points = [
            (time.x((place + 0.5) * time.bucket), None if ms is None else _slow_y(ms, top))
            for place, ms in enumerate(one["p95_ms"])
        ]
        path = " ".join(line(run) for run in runs(points))
        if path:
            yield Shape(kind, path)


def _slow_y(ms: float, top: float) -> float:
    share = log10(min(max(ms, FASTEST_MS), SLOWEST_MS)) / log10(SLOWEST_MS)
    return round(top + LATENCY * (1 - share), 1)


def _lag(
    points: Sequence[tuple[float, int | None]], time: Axis, floor: float, most: int
) -> Iterator[Shape]:
    placed = [
        (time.x(at), None if lag is None else round(floor - LAG * lag / most, 1))
        for at, lag in points
    ]
    for run in runs(placed):
        yield Shape("lag", f"{line(run)}L{run[-1][0]},{floor}L{run[0][0]},{floor}Z")


def _silences(timeline: Mapping[str, Any], time: Axis) -> list[Band]:
    """Return when no write succeeded anywhere, between the first and the last that did."""
    writes = [one for one in timeline["series"] if one["kind"] == "write"]
    count = max((len(one["ok"]) for one in writes), default=0)
    columns = zip(*(_filled(one["ok"], count) for one in writes), strict=True)
    good = [place for place, column in enumerate(columns) if any(column)]
    spans = [((a + 1) * time.bucket, b * time.bucket) for a, b in pairwise(good)]
    return [_silence(*span, time) for span in spans if span[1] - span[0] >= SILENT_S]


def _silence(start: float, end: float, time: Axis) -> Band:
    x, text = time.x(start), f"no write for {end - start:g} s"
    width = round(time.x(end) - x, 1)
    return Band(x, width, "silence", text if width > len(text) * LETTER else "")


SILENT_S = 1.0
"""What is shorter is no silence but chance: writes are not sent in every step of time."""
