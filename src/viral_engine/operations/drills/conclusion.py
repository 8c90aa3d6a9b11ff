"""Puts all that is known of a drill into its result. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from viral_engine.operations.drills.checks import UNSOUND, Evidence, checks_of, rto_of
from viral_engine.operations.drills.figures import requests_of, timeline_of
from viral_engine.operations.drills.ledger import lost_writes
from viral_engine.operations.drills.options import Options
from viral_engine.operations.drills.result import (
    Check,
    LoadFigures,
    Mark,
    Result,
    WorkloadResult,
    worst,
)
from viral_engine.operations.drills.samples import Sample, failed_share
from viral_engine.operations.drills.stories import Mark as Done
from viral_engine.operations.drills.story import Story
from viral_engine.operations.drills.verdict import Ruling

__all__ = ["concluded", "unplayed"]


def concluded(
    evidence: Evidence,
    *,
    seed: int,
    network: str,
    started_at: str,
    zero: int,
    marks: Iterable[Done],
) -> Result:
    """Return the result; ``zero`` is the beginning of the load (ns)."""
    story, plan, samples = evidence.story, evidence.plan, evidence.samples
    checks = checks_of(evidence)
    rto = rto_of(evidence)
    return Result(
        drill=story.name,
        sentence=story.sentence,
        seed=seed,
        network=network,
        regions=tuple(evidence.regions),
        primary=evidence.before.primary,
        started_at=started_at,
        verdict=worst(one.ruling for one in checks),
        why=_why(checks),
        rto_seconds=None if rto is None else round(rto, 3),
        rpo_writes=_lost(evidence),
        error_rate=_rounded(samples),
        error_rate_in_window=_rounded([s for s in samples if evidence.window.holds(s.due)]),
        load=LoadFigures(
            plan.rate, plan.vus, plan.seconds, len(samples), sum(one.dropped for one in samples),
            evidence.effort.generator, evidence.effort.idle,
        ),
        checks=tuple(checks),
        requests=requests_of(samples, plan.regions, window=evidence.window, until=plan.seconds),
        marks=tuple(Mark(round((one.at - zero) / 1e9, 3), one.what) for one in marks),
        timeline=timeline_of(
            samples, evidence.probes, plan.regions, zero=zero, seconds=plan.seconds
        ),
        workloads=tuple(
            WorkloadResult(
                name, judged.verdict.ruling, judged.verdict.why, judged.operations,
                dict(judged.at_stake), tuple(str(one) for one in judged.verdict.findings),
            )
            for name, judged in evidence.workloads.items()
        ),
        witnesses=tuple(evidence.seen),
    )  # fmt: skip


def unplayed(story: Story, options: Options, why: str) -> Result:
    """Return the result of a story that cannot be judged: unknown, and why."""
    return Result(
        drill=story.name, sentence=story.sentence, seed=options.seed, verdict=Ruling.UNKNOWN, why=why,
        load=LoadFigures(options.rate, options.vus, options.seconds or 0.0),
    )  # fmt: skip


def _why(checks: Iterable[Check]) -> str:
    """Say what was broken, or else what is unknown, in one line."""
    listed = list(checks)
    ruling = worst(one.ruling for one in listed)
    if ruling is Ruling.KEPT:
        return ""
    return "; ".join(
        f"{one.name}: {one.why or ', '.join(one.findings[:1]) or one.measured}"
        for one in listed
        if one.ruling is ruling and not one.why.startswith(UNSOUND)
    )


def _lost(evidence: Evidence) -> int | None:
    """Count acknowledged strong writes that are gone; None where nobody could look."""
    verdicts = [evidence.ledger, *(one.verdict for one in evidence.workloads.values())]
    if evidence.ledger.ruling is Ruling.UNKNOWN:
        return None
    return lost_writes(verdicts)


def _rounded(samples: Sequence[Sample]) -> float | None:
    share = failed_share(samples)
    return None if share is None else round(share, 6)
