"""Verdicts have three values, and ``kept`` is the one that must be earned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from viral_engine.operations.drills.history import Operation

__all__ = ["Finding", "Ruling", "Verdict", "all_of", "judge", "ruled"]


class Ruling(StrEnum):
    """What is known of a guarantee after a run."""

    KEPT = "kept"
    BROKEN = "broken"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation: which guarantee, what happened in a sentence, and the operations that show it."""

    guarantee: str
    sentence: str
    operations: tuple[Operation, ...] = ()

    def __str__(self) -> str:
        return f"{self.guarantee}: {self.sentence}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A ruling; ``findings`` where it is broken, ``why`` where it is unknown."""

    ruling: Ruling
    findings: tuple[Finding, ...] = ()
    why: str = ""


def ruled(findings: Iterable[Finding], *, checked: int) -> Verdict:
    """Return broken where there are findings; else kept, or unknown where ``checked`` is zero."""
    found = tuple(findings)
    if found:
        return Verdict(Ruling.BROKEN, found)
    if not checked:
        return Verdict(Ruling.UNKNOWN, why="there was nothing to check")
    return Verdict(Ruling.KEPT)


def all_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Return one verdict for all: broken if one is, else unknown if one is or there is none."""
    given = tuple(verdicts)
    findings = tuple(finding for verdict in given for finding in verdict.findings)
    whys = dict.fromkeys(verdict.why for verdict in given if verdict.ruling is Ruling.UNKNOWN)
    if any(verdict.ruling is Ruling.BROKEN for verdict in given):
        return Verdict(Ruling.BROKEN, findings)
    if whys or not given:
        return Verdict(Ruling.UNKNOWN, why="; ".join(whys) or "nothing was judged")
    return Verdict(Ruling.KEPT)


def judge(experiment: Verdict, control: Verdict | None, *, at_stake: Mapping[str, int]) -> Verdict:
    """Return what a run proves, given its control arm and what was at stake in it.

    A violation that was found stands. A run without one is kept only if the same rig, with the
    protection switched off, found a violation, and if every number of ``at_stake`` (operations,
    waits, overlaps, failovers) is above zero: otherwise it could not have found anything, and the
    ruling is unknown.
    """
    if experiment.ruling is not Ruling.KEPT:
        return experiment
    missing = sorted(name for name, count in at_stake.items() if count <= 0)
    if missing or not at_stake:
        counted = ", ".join(f"no {name}" for name in missing) or "nothing was counted"
        return Verdict(Ruling.UNKNOWN, why=f"nothing was at stake: {counted}")
    if control is None:
        return Verdict(Ruling.UNKNOWN, why="no control arm was run")
    if control.ruling is not Ruling.BROKEN:
        why = "the control arm found no violation, so this rig could not have seen one"
        return Verdict(Ruling.UNKNOWN, why=why)
    return experiment
