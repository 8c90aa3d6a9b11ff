"""The platform's regions: their codes, places and prices, and what a wrong code was meant to be."""

from __future__ import annotations

import difflib
import functools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Any

from viral_engine.errors import UnknownRegionError

__all__ = [
    "Place",
    "Region",
    "aliases",
    "all_regions",
    "distance_km",
    "explain_unknown",
    "nearest",
    "region",
    "retired_regions",
]

EARTH_RADIUS_KM = 6371.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A point on the earth, in degrees, with the name people know it by."""

    city: str
    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Region(Place):
    """A region of the platform; prices are factors of iad's, and US dollars for a gigabyte."""

    code: str
    name: str
    country: str
    geo_region: str
    gateway_available: bool
    mpg_available: bool
    requires_paid_plan: bool
    deprecated: bool
    price_markup: float
    egress_usd_per_gb: float
    private_cross_region_usd_per_gb: float


@functools.cache
def _data() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("data/regions.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@functools.cache
def all_regions() -> Mapping[str, Region]:
    """Return every region by its code, in the order of the codes."""
    return MappingProxyType({row["code"]: Region(**row) for row in _data()["regions"]})


@functools.cache
def retired_regions() -> Mapping[str, Place]:
    """Return the places of codes that were regions once and still stand in old material."""
    return MappingProxyType(
        {
            row["code"]: Place(
                city=row["city"], latitude=row["latitude"], longitude=row["longitude"]
            )
            for row in _data()["retired"]
        }
    )


@functools.cache
def aliases() -> frozenset[str]:
    """Return the platform's names for groups of regions, none of which is a region."""
    return frozenset(_data()["aliases"])


def region(code: str) -> Region:
    """Return the region of that code; UnknownRegionError says which one was probably meant."""
    found = all_regions().get(code)
    if found is None:
        raise UnknownRegionError(
            explain_unknown(code), suggestion="List the regions with: viral regions"
        )
    return found


def distance_km(a: Place, b: Place) -> float:
    """Return the great-circle distance in kilometres."""
    north_a, north_b = math.radians(a.latitude), math.radians(b.latitude)
    east = math.radians(b.longitude - a.longitude)
    half_chord = (
        math.sin((north_b - north_a) / 2) ** 2
        + math.cos(north_a) * math.cos(north_b) * math.sin(east / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(half_chord))


def nearest(origin: str | Place, among: Iterable[str] | None = None) -> Region:
    """Return the region closest on the map to a place or a code, a retired one included.

    Only codes in ``among`` are candidates when it is given; it must not be empty.
    Raises UnknownRegionError for a code that never was one.
    """
    place = origin if isinstance(origin, Place) else retired_regions().get(origin)
    if place is None:
        place = region(str(origin))
    candidates = all_regions().values() if among is None else [region(code) for code in among]
    return min(candidates, key=lambda one: (distance_km(place, one), one.code))


def explain_unknown(code: str) -> str:
    """Return one sentence on why ``code`` is no region, with the valid one that comes nearest."""
    place = retired_regions().get(code)
    if place is not None:
        close = nearest(place)
        return (
            f'region "{code}" ({place.city}) is retired; '
            f'the nearest one now is "{close.code}" ({close.city})'
        )
    if code in aliases():
        return f'"{code}" stands for several regions: name one of them, such as "iad"'
    return f'no region "{code}"; {_guess(code)}'


def _guess(code: str) -> str:
    wanted = code.strip().lower()
    known = all_regions()
    by_city = {one.city.split(",")[0].lower(): one.code for one in known.values()}
    spellings = difflib.get_close_matches(wanted, [*known, *by_city], n=1, cutoff=0.5)
    if not spellings:
        return f"the regions are {', '.join(known)}"
    meant = known[by_city.get(spellings[0], spellings[0])]
    return f'did you mean "{meant.code}" ({meant.city})?'
