"""What the platform charges: data with a source and a date for each figure, and how they combine."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from importlib import resources
from types import MappingProxyType
from typing import Any

from viral_engine.topology.model import CpuKind, Guest
from viral_engine.topology.regions import all_regions, region
from viral_engine.topology.sizes import MEMORY_MB_PER_CPU

__all__ = ["MONTH_S", "Figure", "Prices", "RegionPrices", "prices"]

MONTH_S = 30 * 24 * 3600
"""Seconds of the month that the platform counts with."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A price: US dollars ``per`` something, how much of that is free, and who said so when.

    ``buys`` is what a block that is paid in advance is worth, in US dollars.
    """

    usd: Decimal
    per: str
    source: str
    read: date
    free: Decimal = Decimal(0)
    buys: Decimal = Decimal(0)

    def beyond_free(self, amount: Decimal) -> Decimal:
        """Return what an amount costs, of which the first part may be free."""
        return max(amount - self.free, Decimal(0)) * self.usd


@dataclass(frozen=True, slots=True)
class RegionPrices:
    """A region's factor on machines, and US dollars for a GB that leaves it, to users or regions."""

    factor: Decimal
    egress_gb: Decimal
    private_gb: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """The whole price list."""

    shared_cpu: Figure
    performance_cpu: Figure
    memory_gb: Figure
    stopped_gb: Figure
    volume_gb: Figure
    snapshot_gb: Figure
    dedicated_ipv4: Figure
    certificate: Figure
    shared_block: Figure
    performance_block: Figure
    regions: Mapping[str, RegionPrices]

    def region(self, code: str) -> RegionPrices:
        """Return a region's prices; UnknownRegionError for a code that is no region."""
        return self.regions[region(code).code]

    def machine_month(self, guest: Guest, code: str) -> Decimal:
        """Return what a machine costs that runs the whole month in a region, in US dollars."""
        shared = guest.cpu_kind is CpuKind.SHARED
        cpu = self.shared_cpu if shared else self.performance_cpu
        included_mb = guest.cpus * MEMORY_MB_PER_CPU[guest.cpu_kind][0]
        more_gb = Decimal(max(guest.memory_mb - included_mb, 0)) / 1024
        second = guest.cpus * cpu.usd + more_gb * self.memory_gb.usd
        return second * MONTH_S * self.region(code).factor

    def block(self, kind: CpuKind) -> Figure:
        """Return the block of machine time of a kind that can be paid in advance."""
        return self.shared_block if kind is CpuKind.SHARED else self.performance_block


@functools.cache
def prices() -> Prices:
    """Return the platform's price list as it is packaged."""
    text = resources.files(__package__).joinpath("data/prices.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text, parse_float=Decimal)
    figures = {name: Figure(**_decimals(row)) for name, row in rows.items()}
    by_region = {
        code: RegionPrices(
            factor=Decimal(str(one.price_markup)),
            egress_gb=Decimal(str(one.egress_usd_per_gb)),
            private_gb=Decimal(str(one.private_cross_region_usd_per_gb)),
        )
        for code, one in all_regions().items()
    }
    return Prices(**figures, regions=MappingProxyType(by_region))


def _decimals(row: Mapping[str, Any]) -> dict[str, Any]:
    """Read whole numbers, too, as amounts."""
    return {
        name: Decimal(value) if isinstance(value, int) else value for name, value in row.items()
    }
