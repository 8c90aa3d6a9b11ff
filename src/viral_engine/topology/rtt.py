"""Round-trip times between regions: medians measured on a cloud's backbone, packaged as data."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from importlib import resources

from viral_engine.topology.regions import region

__all__ = ["by_distance", "round_trip", "round_trip_ms"]


@functools.cache
def _matrix() -> Mapping[str, Mapping[str, float]]:
    text = resources.files(__package__).joinpath("data/rtt.json").read_text(encoding="utf-8")
    matrix: Mapping[str, Mapping[str, float]] = json.loads(text)["matrix"]
    return matrix


def round_trip_ms(a: str, b: str) -> float:
    """Return the median round trip between two regions in milliseconds; 1 within a region.

    Raises UnknownRegionError for a code that is no region.
    """
    return _matrix()[region(a).code][region(b).code]


def round_trip(a: str, b: str) -> timedelta:
    """Return the median round trip between two regions, as ``round_trip_ms`` does."""
    return timedelta(milliseconds=round_trip_ms(a, b))


def by_distance(origin: str, among: Iterable[str]) -> tuple[str, ...]:
    """Return the codes by their round trip from ``origin``, nearest first, ties by code."""
    return tuple(sorted(among, key=lambda code: (round_trip_ms(origin, code), code)))
