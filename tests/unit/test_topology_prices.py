"""The price list: it gives the figures that the platform itself publishes."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viral_engine.errors import MisuseError, UnknownRegionError
from viral_engine.topology.model import CpuKind, Guest
from viral_engine.topology.prices import Figure, prices
from viral_engine.topology.regions import all_regions
from viral_engine.topology.sizes import guest_of, preset_of, presets


@pytest.mark.parametrize(
    ("size", "region", "published"),
    [
        ("shared-cpu-1x", "iad", "2.19"),
        ("shared-cpu-1x", "ewr", "2.19"),
        ("shared-cpu-1x:512mb", "iad", "3.69"),
        ("shared-cpu-1x:1gb", "iad", "6.70"),
        ("shared-cpu-2x:2gb", "iad", "13.39"),
        ("performance-1x", "iad", "33.00"),
        ("performance-2x", "iad", "66.00"),
        ("shared-cpu-1x:1gb", "fra", "7.73"),
        ("shared-cpu-1x:1gb", "sin", "8.50"),
    ],
)
def test_a_month_of_a_machine_costs_what_the_platform_publishes(
    size: str, region: str, published: str
) -> None:
    cost = prices().machine_month(guest_of(size), region)
    assert cost.quantize(Decimal("0.01")) == Decimal(published)


def test_a_month_by_hand() -> None:
    # (2 CPUs x 0.0000008465 + (2 - 0.5) GB x 0.000002316) x 2,592,000 s x 1.134615385
    by_hand = (2 * 0.0000008465 + 1.5 * 0.000002316) * 2592000 * 1.134615385
    assert float(prices().machine_month(guest_of("shared-cpu-2x:2gb"), "lhr")) == pytest.approx(
        by_hand
    )


def test_every_region_has_prices_and_every_figure_a_source_and_a_day() -> None:
    known = prices()
    assert known.regions.keys() == all_regions().keys()
    figures = [getattr(known, name) for name in known.__dataclass_fields__]
    for figure in figures:
        if isinstance(figure, Figure):
            assert figure.usd > 0
            assert figure.source.startswith("https://")
            assert date(2026, 1, 1) < figure.read < date(2027, 1, 1)
    with pytest.raises(UnknownRegionError):
        known.region("xyz")


def test_what_is_free_is_free_and_no_more() -> None:
    snapshots = prices().snapshot_gb
    assert snapshots.beyond_free(Decimal(10)) == 0
    assert snapshots.beyond_free(Decimal(12)) == Decimal("0.16")


GUESTS = st.sampled_from(list(presets().values()))


@given(GUESTS, st.sampled_from(sorted(all_regions())), st.integers(0, 20))
def test_more_memory_never_costs_less(guest: Guest, region: str, steps: int) -> None:
    more = Guest(cpu_kind=guest.cpu_kind, cpus=guest.cpus, memory_mb=guest.memory_mb + 256 * steps)
    known = prices()
    assert known.machine_month(more, region) >= known.machine_month(guest, region)


@given(GUESTS)
def test_a_preset_has_a_name_that_is_read_back(guest: Guest) -> None:
    assert guest_of(preset_of(guest)) == guest


@pytest.mark.parametrize(
    "size", ["", "shared", "shared-cpu-3x", "shared-cpu-1x:", "performance-1x:2g", "x:1gb"]
)
def test_a_size_that_there_is_not_is_misuse_with_those_that_there_are(size: str) -> None:
    with pytest.raises(MisuseError) as caught:
        guest_of(size)
    assert "shared-cpu-1x" in caught.value.suggestion or ":1gb" in caught.value.suggestion


def test_the_price_of_a_kind_paid_in_advance_is_less_than_what_it_buys() -> None:
    for kind in CpuKind:
        block = prices().block(kind)
        assert block.usd == block.buys * Decimal("0.7")
