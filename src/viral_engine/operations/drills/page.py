"""The page of a drill: one file for people, drawn from what the JSON twin holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Undefined

from viral_engine.operations.drills.timeline import chart

__all__ = ["page"]

UNKNOWN = "unknown"
NONE = "\N{EN DASH}"


def page(report: Mapping[str, Any]) -> str:
    """Return the HTML of one drill, or of many (``drills``), that needs nothing beside itself.

    Everything in ``report`` is taken as text and escaped. Raises jinja2.UndefinedError or KeyError
    where a member is missing.
    """
    many = "drills" in report
    drills = report["drills"] if many else [report]
    title = "viral drill all" if many else f"{report['drill']}: {report['verdict']}"
    return _TEMPLATES.get_template("page.html").render(
        title=title, many=many, drills=drills, verdict=report["verdict"], counts=_counts(drills)
    )


def _counts(drills: list[Mapping[str, Any]]) -> str:
    counted = Counter(drill["verdict"] for drill in drills)
    said = [f"{counted[word]} {word}" for word in ("broken", "unknown", "kept") if counted[word]]
    return ", ".join(said) or "no drill ran"


def _seconds(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.0f} s" if value >= 100 else f"{value:.1f} s"


def _without_writes(drill: Mapping[str, Any]) -> str:
    """Return how long nobody could write: no time where no write failed and none was late."""
    writes = [row for row in drill["requests"] if row["kind"] == "write"]
    unharmed = bool(writes) and not any(row["failed"] for row in writes)
    if drill["rto_seconds"] is None and unharmed:
        return "0 s"
    return _seconds(drill["rto_seconds"])


def _percent(share: float | None) -> str:
    if share is None:
        return UNKNOWN
    # What is not nothing must not look like it.
    if 0 < share < 0.0001:
        return "<0.01 %"
    if share in {0, 1}:
        return f"{100 * share:.0f} %"
    return f"{100 * share:.2f} %" if share < 0.1 else f"{100 * share:.1f} %"


def _number(value: float) -> str:
    return f"{value:g}"


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def _ms(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.0f} ms"


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def _of_what_is_there(write: Callable[[Any], str]) -> Callable[[Any], str]:
    def written(value: object) -> str:
        if isinstance(value, Undefined):
            # Raises, and names what is missing.
            return str(value)
        return write(value)

    return written


def _environment() -> Environment:
    templates = Environment(
        loader=PackageLoader("viral_engine.operations.drills"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = {
        "seconds": _seconds, "percent": _percent, "count": _count, "number": _number,
        "ms": _ms, "bytes": _bytes,
    }  # fmt: skip
    templates.filters |= {name: _of_what_is_there(write) for name, write in figures.items()}
    templates.filters |= {"chart": chart, "without_writes": _without_writes}
    return templates


_TEMPLATES = _environment()
