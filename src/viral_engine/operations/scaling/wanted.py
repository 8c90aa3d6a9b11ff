"""A deployment with other numbers or sizes of app machines: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from viral_engine.errors import MisuseError
from viral_engine.operations.cost.what_if import what_if
from viral_engine.topology.model import Deployment

__all__ = ["named", "scaled", "with_exactly"]


def scaled(
    deployment: Deployment,
    counts: Sequence[str],
    *,
    size: str | None = None,
    sized: Sequence[str] = (),
) -> Deployment:
    """Return the deployment with counts such as ``iad=2..10``, and a size in the ``sized`` regions.

    Raises MisuseError for a region that it does not have, and for what the rules of a deployment
    do not allow.
    """
    regions = named(deployment, counts, sized)
    if sized and size is None:
        raise MisuseError("which size?", suggestion="As in: --size shared-cpu-2x --region iad")
    sizes = [f"{region}={size}" for region in sized or regions] if size else []
    return what_if(deployment, with_=counts, sizes=sizes)


def named(deployment: Deployment, counts: Sequence[str], sized: Sequence[str]) -> tuple[str, ...]:
    """Return the regions that are spoken of: all of them where none is."""
    codes = tuple(dict.fromkeys([*(text.partition("=")[0] for text in counts), *sized]))
    for code in codes:
        if code not in deployment.region_codes:
            raise MisuseError(
                f'"{code}" is not among the regions ({", ".join(deployment.region_codes)})',
                suggestion="Scaling adds no region: a region also has a database, see docs/reference/deploy.md.",
            )
    return codes or deployment.region_codes


def with_exactly(deployment: Deployment, numbers: Mapping[str, int]) -> Deployment:
    """Return the deployment with so many app machines in these regions, no more and no fewer."""
    plans = tuple(
        replace(plan, min=numbers[plan.code], max=numbers[plan.code])
        if plan.code in numbers
        else plan
        for plan in deployment.regions
    )
    return replace(deployment, regions=plans)
