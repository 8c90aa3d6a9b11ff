"""What ``viral cost`` prints, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rich.console import Console

from viral_engine.cli.output import console, print_table
from viral_engine.operations.cost import Assumptions, Estimate
from viral_engine.operations.cost.assumptions import describe
from viral_engine.operations.cost.suggestions import Suggestion
from viral_engine.topology.model import Deployment
from viral_engine.topology.prices import Figure, Prices

COLUMNS = (
    ("APP", ("app", "worker")),
    ("DATABASE", ("database",)),
    ("CACHE", ("cache",)),
    ("WITNESS", ("witness",)),
    ("VOLUMES", ("volumes",)),
    ("TRAFFIC", ("egress", "replication")),
    ("OTHER", ("snapshots", "certificates", "addresses")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that was estimated; what was not asked for is None."""

    deployment: Deployment
    prices: Prices
    assumptions: Assumptions
    now: Estimate
    ceiling: Estimate
    before: Estimate | None
    actual: Estimate | None
    suggestions: tuple[Suggestion, ...]
    budget: Decimal | None

    @property
    def judged(self) -> Decimal:
        """What is held against the budget: what is really there, where that was counted."""
        return (self.actual or self.now).total

    @property
    def over_budget(self) -> bool:
        """Whether it is too much."""
        return self.budget is not None and self.judged > self.budget


def document(report: Report) -> dict[str, Any]:
    """Return the report for programs; amounts are US dollars a month."""
    return {
        "app": report.deployment.app,
        "total": float(report.now.total),
        "total_at_max": float(report.ceiling.total),
        "by_region": _amounts(report.now.by_region),
        "by_part": _amounts(report.now.by_part),
        "lines": _lines(report.now),
        "what_if": report.before and {
            "before": float(report.before.total),
            "difference": float(report.now.total - report.before.total),
        },
        "actual": report.actual and {
            "total": float(report.actual.total),
            "difference": float(report.actual.total - report.now.total),
            "lines": _lines(report.actual),
        },
        "budget": None if report.budget is None else {
            "limit": float(report.budget),
            "left": float(report.budget - report.judged),
            "within": not report.over_budget,
        },
        "suggestions": [
            {"kind": one.kind, "what": one.what, "how": one.how, "risk": one.risk,
             "saves": float(one.saves)}
            for one in report.suggestions
        ],
        "assumptions": _assumed(report.assumptions),
        "prices": [
            {"name": name, "usd": float(one.usd), "per": one.per, "source": one.source,
             "read": one.read.isoformat()}
            for name, one in _figures(report.prices)
        ],
    }  # fmt: skip


def show(report: Report) -> None:
    """Print the report for people."""
    screen = console(err=False)
    _table(report.now)
    screen.print(f"\n[bold]{_usd(report.now.total)}[/] a month, "
                 f"{_usd(report.ceiling.total)} with every app machine that is allowed to run")  # fmt: skip
    if report.before:
        difference = report.now.total - report.before.total
        screen.print(f"{_signed(difference)} than as declared ({_usd(report.before.total)})")
    if report.actual:
        difference = report.actual.total - report.now.total
        screen.print(f"{_usd(report.actual.total)} for what there really is: {_signed(difference)}")
    if report.budget is not None:
        _show_budget(screen, report, report.budget)
    if report.suggestions:
        screen.print("\nWhat would cost less, each by itself:")
    for one in report.suggestions:
        screen.print(f"  {_usd(one.saves):>8}  {one.what}", markup=False)
        screen.print(f"            how   {one.how}\n            risk  {one.risk}", markup=False)
    _show_grounds(screen, report)


def _show_budget(screen: Console, report: Report, budget: Decimal) -> None:
    left = budget - report.judged
    if report.over_budget:
        screen.print(f"[red]{_usd(-left)} above the budget of {_usd(budget)}[/]")
    else:
        screen.print(f"[green]{_usd(left)} below the budget of {_usd(budget)}[/]")


def _show_grounds(screen: Console, report: Report) -> None:
    """Say what the figures stand on."""
    said = ", ".join(f"{name}={value:g}" for name, value in _assumed(report.assumptions).items()
                     if name != "users")  # fmt: skip
    read = min(one.read for _, one in _figures(report.prices))
    screen.print(f"\nAssumed (change it with --assume): {said}", markup=False)
    screen.print(f"Prices of Fly.io as read on {read}, in US dollars for 30 days, before taxes.")


def _table(bill: Estimate) -> None:
    regions = sorted((code for code, usd in bill.by_region.items() if code or usd),
                     key=lambda code: (not code, code))  # fmt: skip
    rows = []
    for code in regions:
        cells = [_cell(bill.of(code, *parts)) for _, parts in COLUMNS]
        rows.append((code or "-", *cells, _usd(bill.by_region[code])))
    print_table(("REGION", *(name for name, _ in COLUMNS), "SUM"), rows)


def _cell(amount: Decimal) -> str:
    return _usd(amount) if amount else "-"


def _usd(amount: Decimal) -> str:
    return f"${amount:,.2f}"


def _signed(amount: Decimal) -> str:
    return (
        f"{_usd(abs(amount))} {'less' if amount < 0 else 'more'}" if amount else "no more or less"
    )


def _lines(bill: Estimate) -> list[dict[str, Any]]:
    return [
        {"region": line.region or None, "part": line.part, "what": line.what,
         "usd": float(line.usd)}
        for line in bill.lines
    ]  # fmt: skip


def _amounts(sums: Mapping[str, Decimal]) -> dict[str, float]:
    return {name or "none": float(amount) for name, amount in sums.items()}


def _assumed(assumptions: Assumptions) -> dict[str, Any]:
    named = (name for name in describe() if "." not in name)
    found: dict[str, Any] = {name: float(getattr(assumptions, name)) for name in named}
    return {**found, "users": {code: float(value) for code, value in assumptions.users.items()}}


def _figures(prices: Prices) -> list[tuple[str, Figure]]:
    named = ((name, getattr(prices, name)) for name in prices.__dataclass_fields__)
    return [(name, one) for name, one in named if isinstance(one, Figure)]
