"""What was decided, as lines of viral.toml: to be shown, or put into the file as its owner wrote it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import tomlkit
from tomlkit import TOMLDocument
from tomlkit.items import InlineTable

from viral_engine.errors import MisuseError
from viral_engine.topology.load import parse
from viral_engine.topology.model import Deployment, RegionPlan

__all__ = ["lines", "rewritten"]


def lines(deployment: Deployment, regions: Collection[str]) -> str:
    """Return the tables of some regions as they have to be in viral.toml."""
    document = tomlkit.document()
    _write(document, [plan for plan in deployment.regions if plan.code in regions])
    return tomlkit.dumps(document)


def rewritten(text: str, deployment: Deployment, regions: Collection[str]) -> str:
    """Return the text of a viral.toml that says what a deployment has for these regions.

    All else stays as it was written, comments too. A text that names no region gets them all, since
    one that it names takes the place of those that it does not. Raises MisuseError where the text
    would not be read as what was decided, and TopologyError where it is none.
    """
    parse(text)
    document = tomlkit.parse(text)
    everything = "regions" not in document
    wanted = [plan for plan in deployment.regions if everything or plan.code in regions]
    _write(document, wanted)
    changed = tomlkit.dumps(document)
    found = parse(changed)
    for plan in wanted:
        if plan.code not in found.region_codes or found.plan(plan.code) != plan:
            raise MisuseError(
                f"viral.toml cannot be changed so that {plan.code} reads as it was decided.",
                suggestion=f"Change it yourself:\n{lines(deployment, regions)}",
            )
    return changed


def _write(document: TOMLDocument, plans: list[RegionPlan]) -> None:
    regions = document.setdefault("regions", tomlkit.table(is_super_table=True))
    for plan in plans:
        if plan.code not in regions:
            regions[plan.code] = _table_in(regions)
        _set(regions[plan.code], {"min": plan.min, "max": plan.max})
        guest = {
            "cpu_kind": plan.guest.cpu_kind.value, "cpus": plan.guest.cpus,
            "memory_mb": plan.guest.memory_mb,
        }  # fmt: skip
        if "guest" not in regions[plan.code]:
            if plan.guest == RegionPlan(code=plan.code).guest:
                continue
            regions[plan.code]["guest"] = _table_in(regions[plan.code])
        _set(regions[plan.code]["guest"], guest)


def _table_in(around: Any) -> Any:
    return tomlkit.inline_table() if isinstance(around, InlineTable) else tomlkit.table()


def _set(table: Any, values: dict[str, Any]) -> None:
    """Change what differs, and leave alone what does not: it may have its own way of being written."""
    for name, value in values.items():
        if table.get(name) != value:
            table[name] = value
