"""The rules between the values of a deployment, which no single value can break."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from viral_engine.topology.model import Deployment, Guest, RegionPlan, Service
from viral_engine.topology.sizes import CPUS, MEMORY_MB_PER_CPU, MEMORY_STEP_MB

__all__ = ["BrokenRule", "broken_rules"]


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """A rule that does not hold: the values in it, the one to look at first, and a sentence."""

    paths: tuple[tuple[str, ...], ...]
    problem: str


def broken_rules(deployment: Deployment) -> Iterator[BrokenRule]:
    """Yield every rule that the deployment breaks, each once."""
    codes = deployment.region_codes
    if codes and deployment.primary_region not in codes:
        yield BrokenRule(
            (("primary_region",),),
            f'the primary region "{deployment.primary_region}" is not among the regions '
            f"({', '.join(codes)})",
        )
    if deployment.witness in codes:
        yield BrokenRule(
            (("witness",),),
            f'the witness "{deployment.witness}" is also a data region, and its vote would be '
            "lost together with the data: it must be in a region of its own",
        )
    for plan in deployment.regions:
        yield from _region_rules(plan, primary=plan.code == deployment.primary_region)
    yield from _service_rules(deployment.service)


def _region_rules(plan: RegionPlan, *, primary: bool) -> Iterator[BrokenRule]:
    place = ("regions", plan.code)
    if plan.min > plan.max:
        yield BrokenRule(
            ((*place, "min"), (*place, "max")), f"min {plan.min} is above max {plan.max}"
        )
    if primary and plan.min == 0:
        yield BrokenRule(((*place, "min"),), "the primary region needs at least 1 machine")
    yield from _guest_rules(plan.guest, (*place, "guest"))


def _guest_rules(guest: Guest, place: tuple[str, ...]) -> Iterator[BrokenRule]:
    kind, cpus, memory = ((*place, key) for key in ("cpu_kind", "cpus", "memory_mb"))
    if guest.cpus not in CPUS[guest.cpu_kind]:
        allowed = ", ".join(map(str, CPUS[guest.cpu_kind]))
        yield BrokenRule(
            (cpus, kind), f"a {guest.cpu_kind} machine has {allowed} CPUs, got {guest.cpus}"
        )
        return
    low, high = (guest.cpus * per_cpu for per_cpu in MEMORY_MB_PER_CPU[guest.cpu_kind])
    if not low <= guest.memory_mb <= high or guest.memory_mb % MEMORY_STEP_MB:
        yield BrokenRule(
            (memory, cpus, kind),
            f"a {guest.cpu_kind} machine with {guest.cpus} CPUs has {low} to {high} MB in steps "
            f"of {MEMORY_STEP_MB}, got {guest.memory_mb}",
        )


def _service_rules(service: Service) -> Iterator[BrokenRule]:
    if service.hard_limit < service.soft_limit:
        yield BrokenRule(
            (("service", "hard_limit"), ("service", "soft_limit")),
            f"hard_limit {service.hard_limit} is below soft_limit {service.soft_limit}",
        )
    if service.check.timeout > service.check.interval:
        yield BrokenRule(
            (("service", "check", "timeout"), ("service", "check", "interval")),
            "a check's timeout must not be above its interval",
        )
