"""What a drill found, as figures for programs and a few lines for people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from viral_engine.operations.drills.history import Kind, Operation, Outcome
from viral_engine.operations.drills.stories import Mark
from viral_engine.operations.drills.verdict import Verdict

__all__ = ["ArmReport", "arm_report", "primaries_of", "write_gap"]

SHOWN = 5
_SERVED_BY_PRIMARY = frozenset({"primary-here"})


@dataclass(frozen=True, slots=True)
class ArmReport:
    """One arm: its verdict and every figure that says what it is worth."""

    name: str
    verdict: Verdict
    at_stake: Mapping[str, int]
    outcomes: Mapping[str, Mapping[str, int]]
    routes: Mapping[str, int]
    refusals: Mapping[str, int]
    waits: int
    told_lost: int
    primaries: Sequence[str]
    write_gap_s: float | None
    marks: Sequence[tuple[float, str]] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """Return everything; findings as sentences with the indexes of their operations."""
        verdict = self.verdict
        return {
            "arm": self.name,
            "verdict": verdict.ruling.value,
            "why": verdict.why,
            "violations": _counted(str(one.guarantee) for one in verdict.findings),
            "findings": [
                {"guarantee": str(one.guarantee), "sentence": one.sentence,
                 "operations": [operation.index for operation in one.operations]}
                for one in verdict.findings
            ],
            "at_stake": dict(self.at_stake),
            "outcomes": {kind: dict(counts) for kind, counts in self.outcomes.items()},
            "routes": dict(self.routes),
            "refusals": dict(self.refusals),
            "waits": self.waits,
            "told_lost": self.told_lost,
            "primaries": list(self.primaries),
            "write_gap_s": self.write_gap_s,
            "marks": [{"seconds": at, "what": what} for at, what in self.marks],
        }  # fmt: skip

    def lines(self) -> list[str]:
        """Return it in a few lines."""
        verdict = self.verdict
        kinds = "; ".join(
            f"{kind}: " + ", ".join(f"{count} {name}" for name, count in counts.items())
            for kind, counts in self.outcomes.items()
        )
        gap = "none" if self.write_gap_s is None else f"{self.write_gap_s:.1f} s"
        counts = _counted(str(one.guarantee) for one in verdict.findings)
        listed = ", ".join(f"{count} of {name}" for name, count in counts.items())
        found = [f"  violations: {listed}"] if counts else []
        found += [f"  {one}" for one in verdict.findings[:SHOWN]]
        if len(verdict.findings) > SHOWN:
            found.append(f"  … and {len(verdict.findings) - SHOWN} more")
        return [
            f"{self.name}: {verdict.ruling}{f' ({verdict.why})' if verdict.why else ''}",
            f"  {kinds}",
            f"  write gap {gap}; primaries {' → '.join(self.primaries) or 'none'}",
            f"  waits {self.waits}; told of a loss {self.told_lost}",
            *found,
        ]

    def write(self, folder: Path) -> Path:
        """Write the figures beside the history and return the file."""
        file = folder / "report.json"
        file.write_text(json.dumps(self.as_json(), indent=2) + "\n", encoding="utf-8")
        return file


def arm_report(
    name: str,
    verdict: Verdict,
    history: Sequence[Operation],
    *,
    at_stake: Mapping[str, int],
    gap: float | None = None,
    marks: Sequence[Mark] = (),
) -> ArmReport:
    """Return the figures of a history."""
    began = min((one.called_at for one in history), default=0)
    answered = [one for one in history if one.route]
    return ArmReport(
        name=name,
        verdict=verdict,
        at_stake=at_stake,
        outcomes={
            kind.value: _counted(one.outcome for one in history if one.kind is kind)
            for kind in Kind
            if any(one.kind is kind for one in history)
        },
        routes=_counted(f"{one.route}; reason={one.reason}" for one in answered),
        refusals=_counted(
            one.reason or "no answer" for one in history if one.outcome is not Outcome.OK
        ),
        waits=sum(one.route == "wait" for one in history),
        told_lost=sum(one.told_lost for one in history),
        primaries=primaries_of(history),
        write_gap_s=gap,
        marks=[(round((mark.at - began) / 1e9, 3), mark.what) for mark in marks],
    )


def primaries_of(history: Iterable[Operation]) -> list[str]:
    """Return where writes were acknowledged, one after the other, as those who wrote saw it."""
    acknowledged = [
        (one.returned_at, one.region_served)
        for one in history
        if one.kind is not Kind.READ
        and one.outcome is Outcome.OK
        and one.returned_at is not None
        and one.reason in _SERVED_BY_PRIMARY
    ]
    return [region for region, _ in groupby(region for _, region in sorted(acknowledged))]


def write_gap(history: Iterable[Operation], *, regions: frozenset[str], since: int) -> float | None:
    """Return the seconds without writes from ``regions`` after ``since`` (ns); None for no failure.

    From the call of the first write that was without success after ``since`` to the answer of the
    first success that was called after it.
    """
    writes = sorted(
        (one for one in history if one.kind is not Kind.READ and one.region_asked in regions
         and (one.returned_at or one.called_at) >= since),
        key=lambda one: one.called_at,
    )  # fmt: skip
    failed = next((one.called_at for one in writes if one.outcome is not Outcome.OK), None)
    if failed is None:
        return None
    ends = [
        one.returned_at
        for one in writes
        if one.outcome is Outcome.OK and one.called_at > failed and one.returned_at is not None
    ]
    return (min(ends) - failed) / 1e9 if ends else None


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())
