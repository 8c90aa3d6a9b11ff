"""The primary's region is cut off with its users inside, and its lock taken away early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from viral_engine.operations.drills.clients import Book
from viral_engine.operations.drills.durable import check_set
from viral_engine.operations.drills.history import Kind, Operation, Outcome, Value
from viral_engine.operations.drills.register import check_register
from viral_engine.operations.drills.revisions import check_revisions
from viral_engine.operations.drills.stories import Stage, pause
from viral_engine.operations.drills.verdict import Verdict, all_of
from viral_engine.operations.drills.workloads import INITIAL, StrongLoad, StrongPlan, under_load

__all__ = ["BlackHole", "BlackHolePlan", "black_hole", "judge_black_hole", "stakes_of_black_hole"]

SET = "organizations"


@dataclass(frozen=True, slots=True)
class BlackHolePlan:
    """How long each part lasts: ``calm`` before and after the cut; the lock is revoked at once.

    The lost region's Patroni hangs from ``hangs_after`` the cut until shortly before that heals: one
    that runs takes its primary down 3 to 4 s after the cut, about when another is promoted, and so
    hides what primacy is for. ``dark`` counts from the first write that succeeds elsewhere.
    """

    load: StrongPlan = field(default_factory=StrongPlan)
    calm: timedelta = timedelta(seconds=6)
    hangs_after: timedelta = timedelta(seconds=2)
    dark: timedelta = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class BlackHole:
    """What happened: which region was lost, when (ns), and the set that each region has at last."""

    lost: str
    cut_at: int
    written_at: int
    healed_at: int
    final: Mapping[str, Sequence[Value]]


async def black_hole(stage: Stage, book: Book, plan: BlackHolePlan, *, seed: int) -> BlackHole:
    """Play it once. Raises WaitTimeoutError where nobody takes over, or nothing heals."""
    lost = await stage.well()
    load = StrongLoad(stage.edges, book, plan.load, seed=seed, first=lost)
    await load.prepare()
    async with under_load(load.loops):
        stage.mark(f"load begins; {lost} is the primary")
        await pause(plan.calm)
        async with stage.alone(lost):
            cut_at = stage.marks[-1].at
            revoked_at = await stage.revoke()
            await pause(plan.hangs_after - timedelta(microseconds=(revoked_at - cut_at) / 1000))
            async with stage.hung("patroni", lost):
                await stage.written(book, lost=lost, since=revoked_at)
                written_at = stage.marks[-1].at
                await pause(plan.dark)
            healed_at = stage.mark(f"{lost} is about to be healed")
        primary = await stage.well()
        stage.mark(f"all is well; {primary} is the primary")
        await pause(plan.calm)
    stage.mark("load ends; last reads")
    return BlackHole(lost, cut_at, written_at, healed_at, await load.final())


def judge_black_hole(history: Sequence[Operation], played: BlackHole) -> Verdict:
    """Return whether registers were linearizable, and whether what was added is there, once."""
    registers = [one for one in history if one.key != SET]
    elements = [one for one in history if one.key == SET]
    return all_of(
        (
            check_register(registers, initial=INITIAL),
            check_revisions(registers),
            check_set(elements, played.final),
        )
    )


def stakes_of_black_hole(history: Sequence[Operation], played: BlackHole) -> dict[str, int]:
    """Count what could have gone wrong, by when it was called and from where."""
    writes = [one for one in history if one.kind is not Kind.READ]
    before = [one for one in writes if one.called_at < played.cut_at]
    dark = [one for one in history if played.cut_at < one.called_at < played.healed_at]
    inside = [one for one in dark if one.region_asked == played.lost]
    late = [one for one in inside if one.called_at > played.written_at]
    return {
        "acknowledged writes before the cut": _count(before, Outcome.OK),
        "acknowledged writes elsewhere during it": sum(
            one.kind is not Kind.READ and one.outcome is Outcome.OK
            for one in dark
            if one.region_asked != played.lost
        ),
        "writes inside it without success": sum(
            one.kind is not Kind.READ and one.outcome is not Outcome.OK for one in inside
        ),
        "reads asked inside it after others wrote": sum(one.kind is Kind.READ for one in late),
        "acknowledged writes after it": sum(
            one.outcome is Outcome.OK for one in writes if one.called_at > played.healed_at
        ),
    }


def _count(operations: Sequence[Operation], outcome: Outcome) -> int:
    return sum(one.outcome is outcome for one in operations)
