"""What must hold in a drill, ruled from its evidence: the rig first, then speed, then safety. Pure.

Where the rig itself was not sound, nothing is known about speed; a violation of safety stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from viral_engine.operations.drills.cast import Look
from viral_engine.operations.drills.load import Effort, LoadPlan
from viral_engine.operations.drills.probes import Probe, one_at_a_time
from viral_engine.operations.drills.result import Check
from viral_engine.operations.drills.samples import (
    READ,
    WRITE,
    Sample,
    Window,
    failed_share,
    gap_around,
    time_to_write,
)
from viral_engine.operations.drills.story import Story
from viral_engine.operations.drills.verdict import Ruling, Verdict
from viral_engine.operations.drills.witness import Seen
from viral_engine.operations.drills.workload import Judged

__all__ = [
    "GAP",
    "LEDGER",
    "ONE_PRIMARY",
    "READS",
    "REQUESTS",
    "UNSOUND",
    "Evidence",
    "checks_of",
    "rto_of",
]

GAP = "time without a successful write"
READS = "eventual reads that failed at a surviving edge"
REQUESTS = "requests that failed at a surviving edge"
RETRIED = "requests at a lost edge succeed when tried again once"
SHARE = "share of all requests that failed"
ONE_PRIMARY = "no two nodes acknowledged at once"
UNSOUND = "the rig was not sound"
LEDGER = "acknowledged writes of the load are there, once, everywhere"

GENERATOR_AT_MOST = 0.7
IDLE_AT_LEAST = 0.05
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a drill when it is judged; seconds from the beginning of the load.

    ``fault`` lasts from the first act until the last is undone, ``window`` a little longer.
    ``surviving`` has the regions whose users kept an edge, ``cut_off`` those whose users have none until all
    is healed. ``ledger`` is the verdict on what the
    load itself had acknowledged, ``after`` None where the deployment did not become well: ``ill``.
    """

    story: Story
    plan: LoadPlan
    effort: Effort
    samples: Sequence[Sample]
    fault: Window
    window: Window
    regions: Sequence[str]
    surviving: frozenset[str]
    before: Look
    after: Look | None
    probes: Mapping[str, Sequence[Probe]]
    workloads: Mapping[str, Judged]
    ledger: Verdict
    seen: Sequence[Seen]
    ill: str = ""
    cut_off: frozenset[str] = frozenset()

    def of(self, *, kind: str | None = None, surviving: bool = True) -> list[Sample]:
        """Return the requests of a kind, of users that kept an edge or of all."""
        return [
            one
            for one in self.samples
            if kind in {None, one.kind} and (not surviving or one.region in self.surviving)
        ]


def checks_of(evidence: Evidence) -> list[Check]:
    """Return every check, ruled."""
    rig = list(_rig(evidence))
    unsound = "; ".join(one.why for one in rig if one.ruling is not Ruling.KEPT)
    speed = list(_speed(evidence))
    if unsound:
        why = f"{UNSOUND}: {unsound}"
        speed = [replace(one, ruling=Ruling.UNKNOWN, why=why) for one in speed]
    return [*rig, *speed, *_safety(evidence)]


def rto_of(evidence: Evidence) -> float | None:
    """Return the seconds until writes by users of surviving regions succeeded again, the worst.

    None where none failed and none was held.
    """
    times = [
        time_to_write(
            [one for one in evidence.samples if one.region == region],
            evidence.window, until=evidence.plan.seconds,
        )
        for region in evidence.surviving
    ]  # fmt: skip
    return max((time for time in times if time is not None), default=None)


def _rig(evidence: Evidence) -> Iterator[Check]:
    missed = [f"{one.fault} ({one.saw})" for one in evidence.seen if one.ruling is not Ruling.KEPT]
    unseen = bool(evidence.story.acts) and not evidence.seen
    if missed or unseen:
        why = f"not seen by a second look: {'; '.join(missed) or 'any fault'}"
        yield Check("every fault was there", Ruling.UNKNOWN, "seen", why=why)
    else:
        yield Check("every fault was there", Ruling.KEPT, "seen", f"{len(evidence.seen)} seen")
    effort = evidence.effort
    short = effort.generator > GENERATOR_AT_MOST or effort.idle < IDLE_AT_LEAST
    measured = f"{effort.generator:.0%} of a core, {effort.idle:.0%} of all idle"
    yield Check(
        "the load generator had enough CPU", Ruling.UNKNOWN if short else Ruling.KEPT,
        f"at most {GENERATOR_AT_MOST:.0%} of a core, at least {IDLE_AT_LEAST:.0%} of all idle",
        measured, why=f"the load was short of CPU: {measured}" if short else "",
    )  # fmt: skip
    early = sum(one.dropped for one in evidence.samples if not evidence.window.holds(one.due))
    early = early if evidence.story.acts else sum(one.dropped for one in evidence.samples)
    yield Check(
        "the load was sent while nothing was broken", Ruling.UNKNOWN if early else Ruling.KEPT,
        "0 dropped", f"{early} dropped",
        why=f"{early} requests were never sent while nothing was broken" if early else "",
    )  # fmt: skip
    yield _elections(evidence)


def _elections(evidence: Evidence) -> Check:
    name, before, after = "etcd kept its leader", evidence.before, evidence.after
    if evidence.story.expect.election:
        return Check(name, Ruling.KEPT, "may elect another")
    if after is None:
        return Check(name, Ruling.UNKNOWN, "no election", why="nobody could say which it has")
    terms = f"term {before.etcd_term} before, {after.etcd_term} after"
    if after.etcd_term != before.etcd_term:
        why = f"etcd held an election, and the story has none: {terms}"
        return Check(name, Ruling.UNKNOWN, "no election", terms, why)
    return Check(name, Ruling.KEPT, "no election", terms)


def _speed(evidence: Evidence) -> Iterator[Check]:
    expect = evidence.story.expect
    yield _gap(evidence)
    reads = [one for one in evidence.of(kind=READ, surviving=False) if one.failed]
    yield _bounded(READS, reads, expect.failed_reads)
    failed = [one for one in evidence.of(surviving=False) if one.failed]
    yield _bounded(REQUESTS, failed, expect.failed)
    apart = [s for s in evidence.samples if s.apart and s.region not in evidence.cut_off]
    if apart:
        left = [one for one in apart if not one.at_last]
        yield Check(
            RETRIED, Ruling.BROKEN if left else Ruling.KEPT, "all",
            f"{len(apart) - len(left)} of {len(apart)}",
            why=f"{len(left)} failed also then" if left else "", findings=_shown(left),
        )  # fmt: skip
    if expect.share is not None:
        yield _share(evidence.samples, expect.share)


def _share(samples: Sequence[Sample], most: float) -> Check:
    share = failed_share(samples) or 0.0
    over = share >= most
    return Check(
        SHARE, Ruling.BROKEN if over else Ruling.KEPT, f"below {most:.0%}", f"{share:.2%}",
        why=f"{share:.2%} failed" if over else "",
    )  # fmt: skip


def _gap(evidence: Evidence) -> Check:
    target = evidence.story.expect.write_gap_s
    gaps = {
        region: gap.seconds
        for region in sorted(evidence.surviving)
        if (gap := gap_around(
            [s for s in evidence.samples if s.region == region and s.kind == WRITE],
            evidence.window, until=evidence.plan.seconds,
        ))
    }  # fmt: skip
    measured = ", ".join(f"{region} {gap:.2f} s" for region, gap in gaps.items())
    wanted = "" if target is None else f"at most {target:g} s"
    if not gaps:
        return Check(GAP, Ruling.UNKNOWN, wanted, why="nobody wrote at a surviving edge")
    late = [region for region, gap in gaps.items() if gap > (inf if target is None else target)]
    why = f"too long in {', '.join(late)}" if late else ""
    return Check(GAP, Ruling.BROKEN if late else Ruling.KEPT, wanted, measured, why)


def _bounded(name: str, failed: Sequence[Sample], most: int | None) -> Check:
    over = most is not None and len(failed) > most
    return Check(
        name, Ruling.BROKEN if over else Ruling.KEPT,
        "" if most is None else f"at most {most}", str(len(failed)),
        why=f"{len(failed)} failed" if over else "", findings=_shown(failed),
    )  # fmt: skip


def _shown(failed: Sequence[Sample]) -> tuple[str, ...]:
    return tuple(
        f"{one.due:.2f} s, {one.region} {one.kind}: {one.status or 'no answer'} {one.reason}"
        for one in failed[:SHOWN]
    )


def _safety(evidence: Evidence) -> Iterator[Check]:
    yield _moved(evidence)
    yield _ruled(ONE_PRIMARY, one_at_a_time(evidence.probes))
    yield _ruled(LEDGER, evidence.ledger)
    for name, judged in evidence.workloads.items():
        yield _ruled(f"workload {name}", judged.verdict)


def _moved(evidence: Evidence) -> Check:
    name, moves = "the primary is where it should be", evidence.story.expect.moves
    wanted = {"yes": "moves", "no": "stays", "either": "may move"}[moves]
    before, after = evidence.before, evidence.after
    if after is None:
        return Check(name, Ruling.BROKEN, wanted, why=f"it did not become well: {evidence.ill}")
    told = (
        f"{before.primary} on timeline {before.timeline}, then {after.primary} on {after.timeline}"
    )
    has_moved = after.timeline > before.timeline
    if moves != "either" and has_moved != (moves == "yes"):
        why = "it moved without need" if has_moved else "nobody took over"
        return Check(name, Ruling.BROKEN, wanted, told, why)
    return Check(name, Ruling.KEPT, wanted, told)


def _ruled(name: str, verdict: Verdict) -> Check:
    return Check(
        name, verdict.ruling, "no violation", f"{len(verdict.findings)} violations",
        verdict.why, tuple(str(one) for one in verdict.findings[:SHOWN]),
    )  # fmt: skip
