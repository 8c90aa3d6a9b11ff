"""A deployment as it would be: with a region more or less, or machines of another size."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from viral_engine.errors import MisuseError
from viral_engine.topology.model import Deployment, Guest, RegionPlan
from viral_engine.topology.overrides import with_overrides
from viral_engine.topology.regions import region
from viral_engine.topology.rules import broken_rules
from viral_engine.topology.sizes import guest_of

__all__ = ["what_if"]

_COUNT = re.compile(r"(\d{1,4})(?:\.\.(\d{1,4}))?")


def what_if(
    deployment: Deployment,
    *,
    with_: Sequence[str] = (),
    without: Sequence[str] = (),
    sizes: Sequence[str] = (),
) -> Deployment:
    """Return the deployment with changes.

    ``with_`` are counts such as ``syd=1`` or ``syd=1..5``, for a region that is there or a new one;
    ``without`` are codes; ``sizes`` such as ``shared-cpu-1x``, ``shared-cpu-2x:2gb`` or
    ``lhr=performance-1x`` are of app machines. Another set of regions gets a witness chosen for it.
    Raises MisuseError or UnknownRegionError for what cannot be.
    """
    counted = list(map(_count, _split(with_)))
    counts = dict(counted)
    gone = [_there(code, deployment) for code in _split(without)]
    if len(counts) < len(counted) or counts.keys() & set(gone):
        raise MisuseError("a region is there twice", suggestion="Say one thing about each region.")
    codes = [code for code in deployment.region_codes if code not in gone]
    codes += [code for code in counts if code not in codes]
    if deployment.primary_region not in codes:
        raise MisuseError(
            f"{deployment.primary_region} is the primary region, which the others follow",
            suggestion="Leave another one out, or change primary_region in viral.toml.",
        )
    changed = with_overrides(deployment, regions=codes)
    plans = [_counted(plan, counts) for plan in changed.regions]
    for code, guest in map(_size, _split(sizes)):
        if code:
            _there(code, changed)
        plans = [replace(plan, guest=guest) if code in {"", plan.code} else plan for plan in plans]
    changed = replace(changed, regions=tuple(plans))
    for rule in broken_rules(changed):
        raise MisuseError(
            f"{'.'.join(rule.paths[0])}: {rule.problem}",
            suggestion="Change the counts or the size.",
        )
    return changed


def _split(texts: Iterable[str]) -> list[str]:
    return [part.strip() for text in texts for part in text.split(",")]


def _count(text: str) -> tuple[str, tuple[int, int]]:
    code, _, count = text.partition("=")
    match = _COUNT.fullmatch(count)
    if match is None:
        raise MisuseError(
            f'"{text}" is no count of machines',
            suggestion="Write a region and how many, as in: syd=1 or syd=1..5",
        )
    low = int(match[1])
    return region(code).code, (low, int(match[2]) if match[2] else max(low, 1))


def _size(text: str) -> tuple[str, Guest]:
    code, equals, size = text.partition("=")
    return (region(code).code, guest_of(size)) if equals else ("", guest_of(text))


def _there(code: str, deployment: Deployment) -> str:
    if region(code).code not in deployment.region_codes:
        raise MisuseError(
            f"{code} is not among the regions ({', '.join(deployment.region_codes)})",
            suggestion=f"Add it with: --with {code}=1",
        )
    return code


def _counted(plan: RegionPlan, counts: dict[str, tuple[int, int]]) -> RegionPlan:
    if plan.code not in counts:
        return plan
    low, high = counts[plan.code]
    return replace(plan, min=low, max=high)
