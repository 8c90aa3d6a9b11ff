"""What one benchmark tells: its table, what was promised of it, and every figure. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.figures import State, Verdict

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Promise:
    """One sentence with a figure in it, and whether it held; an aim does not decide how we end."""

    sentence: str
    verdict: Verdict
    is_aim: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """One benchmark's result, ready to be printed and to be left as JSON."""

    name: str
    table: Sequence[str]
    promises: Sequence[Promise]
    figures: Mapping[str, Any]

    @property
    def kept(self) -> bool:
        """Whether every promise was measured and kept; aims do not count."""
        return all(one.verdict.state is State.KEPT for one in self.promises if not one.is_aim)

    def lines(self) -> Iterator[str]:
        """Yield the whole of it as text."""
        yield f"== {self.name}"
        yield from self.table
        for one in self.promises:
            yield f"{one.sentence}: {one.verdict.state}"
            yield from (f"  {reason}" for reason in one.verdict.reasons)

    def as_json(self) -> Mapping[str, Any]:
        """Return everything for programs."""
        promises = {
            one.sentence: {"state": one.verdict.state, "reasons": one.verdict.reasons}
            for one in self.promises
        }
        return {"promises": promises, "figures": self.figures}


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some figures, and the lowest and the highest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one figure."""
        return cls(statistics.median(values), min(values), max(values))

    def told(self, form: str) -> str:
        """Return it as text, each figure in the form given, as in ``.2f``."""
        return f"{self.median:{form}} [{self.low:{form}}-{self.high:{form}}]"


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that is not below ``share`` of all; None where there is none."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def judged(holds: bool | None, doubts: Sequence[str], why_not: str) -> Verdict:  # noqa: FBT001
    """Return unknown where there are doubts or no figure, else whether it holds."""
    if doubts or holds is None:
        return Verdict(State.UNKNOWN, tuple(doubts) or ("there were no figures",))
    return Verdict(State.KEPT) if holds else Verdict(State.BROKEN, (why_not,))


def aligned(table: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the rows with their columns below one another, the first to the left."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        first, *rest = row
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells]).rstrip()
