"""Where the witness goes: the third vote, without data."""

from __future__ import annotations

from collections.abc import Collection

from viral_engine.topology.regions import all_regions, distance_km, region
from viral_engine.topology.rtt import round_trip_ms

__all__ = ["SEPARATE_FAILURE_KM", "choose_witness"]

# Nearer than this, two regions share power grids and fibre routes: iad and ewr (350 km) do,
# iad and yyz (540 km) do not.
SEPARATE_FAILURE_KM = 500.0


def choose_witness(data_regions: Collection[str]) -> str | None:
    """Return the region for the witness of these data regions, or None where none is of use.

    An odd number of data regions has its majority without one. Else it is, among the regions
    farther than SEPARATE_FAILURE_KM from every data region, the one with the smallest worst round
    trip to them: after the loss of a region, that round trip is what every vote costs. Ties go to
    the smaller sum, then to the code. Raises UnknownRegionError for a code that is no region.
    """
    if len(data_regions) % 2 == 1:
        return None
    used = [region(code) for code in data_regions]
    candidates = [
        one.code
        for one in all_regions().values()
        if all(distance_km(one, other) > SEPARATE_FAILURE_KM for other in used)
    ]

    def cost(code: str) -> tuple[float, float, str]:
        trips = [round_trip_ms(code, other.code) for other in used]
        return max(trips), sum(trips), code

    return min(candidates, key=cost, default=None)
