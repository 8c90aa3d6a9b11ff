"""What would cost less, by how much, and what it risks: each a change that is estimated like any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

from viral_engine.operations.cost.assumptions import Assumptions
from viral_engine.operations.cost.estimate import estimate
from viral_engine.operations.cost.inventory import declared
from viral_engine.topology.model import (
    CpuKind,
    Deployment,
    Guest,
    RegionPlan,
    Standby,
    Strategy,
)
from viral_engine.topology.overrides import with_overrides
from viral_engine.topology.prices import Prices
from viral_engine.topology.regions import all_regions
from viral_engine.topology.rtt import by_distance, round_trip_ms
from viral_engine.topology.sizes import CPUS, MEMORY_MB_PER_CPU, MEMORY_STEP_MB, preset_of

__all__ = ["Suggestion", "suggestions"]

NEAR_MS = 20.0
"""Milliseconds; users hardly notice a region that is no farther than this."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What to do, how, what that risks, and US dollars that it saves in a month."""

    kind: str
    what: str
    how: str
    risk: str
    saves: Decimal


@dataclass(frozen=True, slots=True)
class _Change:
    kind: str
    what: str
    how: str
    risk: str
    deployment: Deployment
    assumptions: Assumptions


def suggestions(
    deployment: Deployment, prices: Prices, assumptions: Assumptions
) -> tuple[Suggestion, ...]:
    """Return what saves something, the most first; each is counted by itself, and they overlap."""
    now = estimate(deployment, prices, assumptions).total
    made = [
        Suggestion(change.kind, change.what, change.how, change.risk, now - then)
        for propose in (_stand_by, _fewer, _shared, _less_memory, _nearby, _shared_addresses)
        for change in propose(deployment, assumptions)
        if (then := estimate(change.deployment, prices, change.assumptions).total) < now
    ]
    made += _paid_in_advance(deployment, prices, assumptions)
    return tuple(sorted(made, key=lambda one: (-one.saves, one.kind, one.what)))


def _stand_by(deployment: Deployment, assumptions: Assumptions) -> Iterator[_Change]:
    """Stop the machines of all regions but the primary one."""
    if len(deployment.regions) == 1:
        return
    serving = deployment.strategy is Strategy.ACTIVE_ACTIVE
    risk = (
        "A stopped machine is no capacity: in an incident its host or its region may be full, and a "
        "takeover waits for its start."
    )
    if serving:
        risk += f" Users far from {deployment.primary_region} wait for its round trip with every request."
    yield _Change(
        kind="auto-stop",
        what="Let only the primary region serve, and stop the app machines of the others",
        how='viral.toml: strategy = "active-passive", standby = "stopped"',
        risk=risk,
        deployment=replace(deployment, strategy=Strategy.ACTIVE_PASSIVE, standby=Standby.STOPPED),
        assumptions=assumptions,
    )


def _fewer(deployment: Deployment, assumptions: Assumptions) -> Iterator[_Change]:
    """Let a region other than the primary one go down to one machine."""
    for plan in deployment.regions:
        if plan.code != deployment.primary_region and plan.min > 1:
            yield _Change(
                kind="asymmetric-regions",
                what=f"Keep one app machine in {plan.code} when it is quiet, in place of {plan.min}",
                how=f"viral.toml: [regions.{plan.code}] min = 1",
                risk=f"While that one restarts, or is updated, users of {plan.code} are served by the "
                "next region; under load its hard limit sends them there too.",
                deployment=_with_plan(deployment, replace(plan, min=1)),
                assumptions=assumptions,
            )


def _shared(deployment: Deployment, assumptions: Assumptions) -> Iterator[_Change]:
    """Take slices of CPUs in place of whole ones."""
    for plan in deployment.regions:
        if plan.guest.cpu_kind is not CpuKind.PERFORMANCE:
            continue
        cpus = max(number for number in CPUS[CpuKind.SHARED] if number <= plan.guest.cpus)
        memory = min(plan.guest.memory_mb, cpus * MEMORY_MB_PER_CPU[CpuKind.SHARED][1])
        guest = Guest(cpu_kind=CpuKind.SHARED, cpus=cpus, memory_mb=memory)
        yield _Change(
            kind="shared-cpu",
            what=f"Take {preset_of(guest)} with {memory} MB in {plan.code}",
            how=f'viral.toml: [regions.{plan.code}.guest] cpu_kind = "shared", cpus = {cpus}, '
            f"memory_mb = {memory}",
            risk="A shared CPU is throttled once its short bursts are used up: answers become slow "
            "just when the load lasts.",
            deployment=_with_plan(deployment, replace(plan, guest=guest)),
            assumptions=assumptions,
        )


def _less_memory(deployment: Deployment, assumptions: Assumptions) -> Iterator[_Change]:
    """Take half of the memory where a machine may have less."""
    for plan in deployment.regions:
        half = plan.guest.memory_mb // 2
        least = plan.guest.cpus * MEMORY_MB_PER_CPU[plan.guest.cpu_kind][0]
        if half >= least and half % MEMORY_STEP_MB == 0:
            yield _Change(
                kind="less-memory",
                what=f"Take {half} MB for the app machines of {plan.code}",
                how=f"viral.toml: [regions.{plan.code}.guest] memory_mb = {half}",
                risk="An app that needs more is killed in the middle of its requests: look at what it "
                "uses under load first.",
                deployment=_with_plan(
                    deployment, replace(plan, guest=replace(plan.guest, memory_mb=half))
                ),
                assumptions=assumptions,
            )


def _nearby(deployment: Deployment, assumptions: Assumptions) -> Iterator[_Change]:
    """Take a cheaper region next door, not for the primary one."""
    for plan in deployment.regions:
        if plan.code == deployment.primary_region:
            continue
        unused = set(all_regions()) - set(deployment.all_codes)
        for code in by_distance(plan.code, unused):
            far = round_trip_ms(plan.code, code)
            if far > NEAR_MS:
                break
            codes = [code if one == plan.code else one for one in deployment.region_codes]
            moved = with_overrides(deployment, regions=codes)
            yield _Change(
                kind="cheaper-region",
                what=f"Take {code} in place of {plan.code}",
                how=f"viral.toml: [regions.{code}] in place of [regions.{plan.code}]",
                risk=f"About {far:.0f} ms more for the users next to {plan.code}; a database is made "
                "anew there.",
                deployment=_with_plan(moved, replace(plan, code=code)),
                assumptions=assumptions,
            )


def _shared_addresses(deployment: Deployment, assumptions: Assumptions) -> Iterator[_Change]:
    """Give IPv4 addresses back."""
    if assumptions.dedicated_ipv4:
        yield _Change(
            kind="fewer-addresses",
            what="Use the shared IPv4 address and IPv6, which cost nothing",
            how="--assume dedicated_ipv4=0",
            risk="A shared address serves HTTP and TLS by hostname only: no other port, and no "
            "client without SNI.",
            deployment=deployment,
            assumptions=replace(assumptions, dedicated_ipv4=Decimal(0)),
        )


def _paid_in_advance(
    deployment: Deployment, prices: Prices, assumptions: Assumptions
) -> Iterator[Suggestion]:
    """Pay for a year what runs anyway: blocks by region and kind of CPU."""
    sums: dict[tuple[str, CpuKind], Decimal] = {}
    for one, count in declared(deployment, assumptions.load).machines.items():
        if one.running:
            key = (one.region, one.guest.cpu_kind)
            usd = count * prices.machine_month(one.guest, one.region)
            sums[key] = sums.get(key, Decimal(0)) + usd
    for (code, kind), usd in sorted(sums.items()):
        block = prices.block(kind)
        blocks = int(usd // block.buys)
        if blocks:
            yield Suggestion(
                kind="paid-in-advance",
                what=f"Reserve {blocks * block.buys:f} dollars a month of {kind} machines in {code}",
                how="the billing page of the platform's dashboard",
                risk=f"{blocks * block.usd * 12:.0f} dollars are paid at once for a year, bound to {code} and to "
                f"{kind} CPUs, used or not.",
                saves=blocks * (block.buys - block.usd),
            )


def _with_plan(deployment: Deployment, changed: RegionPlan) -> Deployment:
    plans = tuple(changed if plan.code == changed.code else plan for plan in deployment.regions)
    return replace(deployment, regions=plans)
