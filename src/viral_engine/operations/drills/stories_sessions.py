"""Sessions on the move while the primary moves three times: as planned, by a loss, and by a kill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from viral_engine.operations.drills.clients import Book
from viral_engine.operations.drills.durable import Durability
from viral_engine.operations.drills.history import Kind, Operation, Outcome, Value
from viral_engine.operations.drills.report import primaries_of
from viral_engine.operations.drills.sessions import check_sessions
from viral_engine.operations.drills.stories import Stage, pause
from viral_engine.operations.drills.verdict import Finding, Verdict, all_of, ruled
from viral_engine.operations.drills.workloads import under_load
from viral_engine.operations.drills.workloads_sessions import (
    SessionLoad,
    SessionPlan,
    versions_of,
)

__all__ = ["Moves", "MovesPlan", "judge_moves", "moves", "stakes_of_moves"]


@dataclass(frozen=True, slots=True)
class MovesPlan:
    """How long each part lasts; in the first, ways are ``slower`` and replay ``stops`` at times."""

    load: SessionPlan = field(default_factory=SessionPlan)
    calm: timedelta = timedelta(seconds=5)
    revoke_after: timedelta = timedelta(seconds=2)
    dark: timedelta = timedelta(seconds=5)
    slower: float = 4.0
    stops: Sequence[timedelta] = (
        timedelta(seconds=0.5),
        timedelta(seconds=1),
        timedelta(seconds=4),
    )


@dataclass(frozen=True, slots=True)
class Moves:
    """What happened: the region that was cut off, when (ns), and each row at last by region."""

    lost: str
    cut_at: int
    healed_at: int
    final: Mapping[str, Mapping[str, Value]]


async def moves(stage: Stage, book: Book, plan: MovesPlan, *, seed: int) -> Moves:
    """Play it once. Raises WaitTimeoutError where nobody takes over, or nothing heals."""
    first = await stage.well()
    load = SessionLoad(stage.edges, book, plan.load, seed=seed, first=first)
    await load.prepare()
    async with under_load(load.loops):
        stage.mark(f"load begins; {first} is the primary")
        other = next(region for region in stage.edges if region != first)
        async with stage.slow(plan.slower):
            await pause(plan.calm)
            for stop in plan.stops:
                async with stage.hung("replay", other):
                    await pause(stop)
                await pause(plan.calm / 4)
        await stage.switch_over(other)
        lost = await stage.well()
        await pause(plan.calm)
        async with stage.alone(lost):
            cut_at = stage.marks[-1].at
            await pause(plan.revoke_after)
            revoked_at = await stage.revoke()
            await stage.written(book, lost=lost, since=revoked_at)
            await pause(plan.dark)
        healed_at = stage.marks[-1].at
        last = await stage.well()
        await stage.kill(last)
        await pause(plan.calm)
        stage.mark(f"all is well; {await stage.well()} is the primary")
        await pause(plan.calm)
    stage.mark("load ends; last reads")
    return Moves(lost, cut_at, healed_at, await load.final())


def judge_moves(history: Sequence[Operation], played: Moves, *, dropped: bool) -> Verdict:
    """Return whether the sessions that kept, or those that ``dropped``, their tokens were served.

    The two groups share no row.
    """
    regions = sorted(played.final)
    rows = played.final[regions[0]]
    arm = [one for one in history if one.token_dropped is dropped]
    keys = {one.key for one in arm}
    versions = versions_of(arm, {key: value for key, value in rows.items() if key in keys})
    differing = [
        Finding(Durability.DIVERGED, f"{key} is {shown} in the regions {', '.join(regions)}")
        for key in sorted(keys)
        if len(set(shown := [played.final[region][key] for region in regions])) > 1
    ]
    return all_of((check_sessions(arm, versions), ruled(differing, checked=len(regions))))


def stakes_of_moves(history: Sequence[Operation], played: Moves) -> dict[str, int]:
    """Count what could have gone wrong for the sessions with tokens."""
    mine = [one for one in history if not one.token_dropped]
    good = [one for one in mine if one.outcome is Outcome.OK]
    reads = [one for one in good if one.kind is Kind.READ]
    behind = [one for one in reads if one.route == "wait" or one.reason == "replica-behind"]
    dark = [one for one in good if played.cut_at < one.called_at < played.healed_at]
    return {
        "acknowledged writes": sum(one.kind is not Kind.READ for one in good),
        "reads served by a replica": sum(one.reason == "replica" for one in reads),
        "reads that waited or went to the primary": len(behind),
        "moves of the primary": len(primaries_of(good)) - 1,
        "operations answered during the cut": len(dark),
    }
