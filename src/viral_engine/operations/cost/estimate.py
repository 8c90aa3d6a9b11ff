"""What a month costs, line by line: pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from viral_engine.operations.cost.assumptions import Assumptions
from viral_engine.operations.cost.inventory import Inventory, Kept, declared
from viral_engine.topology.model import Deployment, Strategy
from viral_engine.topology.prices import MONTH_S, Prices
from viral_engine.topology.sizes import preset_of

__all__ = ["Estimate", "Line", "estimate"]

CENT = Decimal("0.01")
KB_PER_GB = 1_000_000


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the bill, in whole cents; ``region`` is empty for what belongs to none."""

    region: str
    part: str
    what: str
    usd: Decimal


@dataclass(frozen=True, slots=True)
class Estimate:
    """A month's bill."""

    lines: tuple[Line, ...]

    @property
    def total(self) -> Decimal:
        """The whole of it, in US dollars."""
        return sum((line.usd for line in self.lines), Decimal(0))

    @property
    def by_region(self) -> Mapping[str, Decimal]:
        """The sums of each region; what belongs to none has an empty code."""
        return self._sums(lambda line: line.region)

    @property
    def by_part(self) -> Mapping[str, Decimal]:
        """The sums of each part."""
        return self._sums(lambda line: line.part)

    def of(self, region: str, *parts: str) -> Decimal:
        """Return the sum of some parts in a region."""
        return sum(
            (line.usd for line in self.lines if line.region == region and line.part in parts),
            Decimal(0),
        )

    def _sums(self, key: Callable[[Line], str]) -> Mapping[str, Decimal]:
        sums: dict[str, Decimal] = {}
        for line in self.lines:
            sums[key(line)] = sums.get(key(line), Decimal(0)) + line.usd
        return sums


def estimate(
    deployment: Deployment,
    prices: Prices,
    assumptions: Assumptions,
    inventory: Inventory | None = None,
) -> Estimate:
    """Return a month's bill for what is declared, or for an inventory that was found.

    Traffic, snapshots and addresses are assumed either way. Raises UnknownRegionError for a region
    without a price.
    """
    kept = declared(deployment, assumptions.load) if inventory is None else inventory
    rows = (
        *_machines(kept, prices, assumptions),
        *_volumes(kept, prices),
        *_traffic(deployment, prices, assumptions),
        *_whole(deployment, prices, assumptions),
    )
    return Estimate(tuple(_line(*row) for row in rows))


Row = tuple[str, str, str, Decimal]


def _line(region: str, part: str, what: str, usd: Decimal) -> Line:
    return Line(region, part, what, usd.quantize(CENT, rounding=ROUND_HALF_EVEN))


def _machines(kept: Inventory, prices: Prices, assumptions: Assumptions) -> Iterator[Row]:
    for one, count in sorted(kept.machines.items(), key=lambda item: _order(item[0])):
        size = f"{preset_of(one.guest)} with {one.guest.memory_mb} MB"
        if one.running:
            usd = count * prices.machine_month(one.guest, one.region)
            yield one.region, one.role, f"{count} × {size}", usd
        else:
            usd = count * assumptions.root_gb * prices.stopped_gb.usd
            yield one.region, one.role, f"{count} × {size}, stopped", usd


def _order(one: Kept) -> tuple[str, str, str, int, bool]:
    return one.region, one.role, preset_of(one.guest), one.guest.memory_mb, one.running


def _volumes(kept: Inventory, prices: Prices) -> Iterator[Row]:
    for one, count in sorted(kept.volumes.items(), key=lambda item: (item[0].region, item[0].gb)):
        usd = count * one.gb * prices.volume_gb.usd
        yield one.region, "volumes", f"{count} × {one.gb} GB", usd


def _traffic(deployment: Deployment, prices: Prices, assumptions: Assumptions) -> Iterator[Row]:
    """What leaves each region: answers to users, and the log that the primary streams."""
    month_gb = assumptions.requests_per_second * MONTH_S * assumptions.response_kb / KB_PER_GB
    for code, share in _answered(deployment, assumptions).items():
        amount = month_gb * share
        yield code, "egress", f"{amount:.1f} GB to users", amount * prices.region(code).egress_gb
    others = len(deployment.regions) - 1
    if others:
        primary = deployment.primary_region
        writes = assumptions.requests_per_second * MONTH_S * assumptions.writes
        log_gb = others * writes * assumptions.wal_kb / KB_PER_GB
        noun = "region" if others == 1 else "regions"
        yield (primary, "replication", f"{log_gb:.1f} GB of log to {others} {noun}",
               log_gb * prices.region(primary).private_gb)  # fmt: skip


def _answered(deployment: Deployment, assumptions: Assumptions) -> dict[str, Decimal]:
    """Return the fraction of all requests that each region answers.

    Writes and strong reads are answered by the primary's region, and cost there to leave.
    """
    primary = deployment.primary_region
    if deployment.strategy is Strategy.ACTIVE_PASSIVE:
        return {primary: Decimal(1)}
    weights = _weights(deployment.region_codes, assumptions.users)
    at_primary = assumptions.writes + assumptions.strong_reads
    near = {code: weight * (1 - at_primary) for code, weight in weights.items()}
    return {**near, primary: near[primary] + at_primary}


def _weights(codes: Iterable[str], users: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Return how the users divide; those near no region of the deployment are not counted."""
    said = {code: users.get(code, Decimal(0)) for code in codes}
    if not any(said.values()):
        said = dict.fromkeys(said, Decimal(1))
    total = sum(said.values())
    return {code: weight / total for code, weight in said.items()}


def _whole(deployment: Deployment, prices: Prices, assumptions: Assumptions) -> Iterator[Row]:
    """What belongs to the organization and no region; its free amounts are counted as all ours."""
    stored = assumptions.database_gb * len(deployment.regions)
    snapshots = prices.snapshot_gb.beyond_free(stored)
    yield "", "snapshots", f"{stored:f} GB, the first {prices.snapshot_gb.free} free", snapshots
    names = len(deployment.service.hostnames)
    certificates = prices.certificate.beyond_free(Decimal(names))
    yield "", "certificates", f"{names}, the first {prices.certificate.free} free", certificates
    own = assumptions.dedicated_ipv4
    yield "", "addresses", f"{own:f} IPv4 of its own", own * prices.dedicated_ipv4.usd
