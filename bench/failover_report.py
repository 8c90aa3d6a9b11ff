"""The worst of several runs of each drill, beside its target and what others have published. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from viral_engine.operations.drills.checks import GAP, LEDGER, ONE_PRIMARY, READS, REQUESTS

UNKNOWN_AT_MOST = 0.1
DUPLICATE, LOST = "twice", "lost"


@dataclass(frozen=True, slots=True)
class Headline:
    """One drill that is run several times: the longest gap between writes, and what else is promised.

    ``failed`` bounds failed requests of any kind at surviving edges, ``share`` their share of all.
    ``published`` says what was measured or is promised elsewhere, and by whom.
    """

    name: str
    drill: str
    gap_s: float | None
    published: str
    runs: int = 9
    seconds: float | None = None
    failed: int | None = None
    share: float | None = None


HEADLINES = (
    Headline(
        "switchover", "switchover", 5, failed=0,
        published="stock Patroni over this WAN: 4.4 s (measured); Aurora switchover: RPO 0",
    ),
    Headline(
        "postgres-kill", "postgres-kill", 5,
        published="stock Patroni without a WAN: 2 s (measured); CockroachDB, crash: 14.5 s (2022), "
        "7.0 s (median of 2024); RDS Multi-AZ instance: 60-120 s",
    ),
    Headline(
        "region-kill", "region-kill", 8,
        published="stock Patroni: 20 s (measured); YugabyteDB, zone: 3 s, as its application saw it 15 s; "
        "RDS Multi-AZ cluster: 35 s",
    ),
    Headline(
        "black-hole", "black-hole", 12,
        published="stock Patroni over this WAN: 23.7 s at its smallest settings (measured), 32 s and more at its "
        "defaults; CockroachDB, black hole: 16.6-18.3 s; Aurora Global: minutes",
    ),
    Headline(
        "replica-loss", "replica-loss", 5,
        published="PostgreSQL's defaults: strong writes stall for 65 s (measured)",
    ),
    Headline(
        "guide", "region-stop", None, runs=1, seconds=300, share=0.01,
        published="5 minutes, the primary's region stopped in between: below 1 % of requests fail",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its verdict, its figures, and how often each promise was broken."""

    seed: int
    verdict: str
    why: str = ""
    gap_s: float | None = None
    rto_s: float | None = None
    failed: int = 0
    failed_reads: int = 0
    apart: int = 0
    share: float | None = None
    share_in_window: float | None = None
    lost: int | None = None
    sessions: int = 0
    duplicates: int = 0
    two_primaries: bool = False

    @property
    def sentence(self) -> str:
        """The run in a line."""
        gap = "?" if self.gap_s is None else f"{self.gap_s:.2f} s"
        why = f" ({self.why})" if self.why else ""
        return f"{self.verdict}, gap {gap}, failed {self.failed}, lost {self.lost}{why}"


def run_of(told: Mapping[str, Any]) -> Run:
    """Read a drill's result; an error in its place is a run of which nothing is known."""
    if "error" in told:
        return Run(-1, "unknown", str(told["error"]["message"]))
    checks = {one["name"]: one for one in told["checks"]}
    found = [finding for one in told["workloads"] for finding in one["findings"]]
    found += checks.get(LEDGER, {}).get("findings", [])
    return Run(
        seed=told["seed"],
        verdict=told["verdict"],
        why=told["why"],
        gap_s=max(map(float, re.findall(r"([\d.]+) s", _measured(checks, GAP))), default=None),
        rto_s=told["rto_seconds"],
        failed=int(_measured(checks, REQUESTS) or 0),
        failed_reads=int(_measured(checks, READS) or 0),
        apart=sum(one["in_flight_at_lost_edge"] for one in told["requests"]),
        share=told["error_rate"],
        share_in_window=told["error_rate_in_window"],
        lost=told["rpo_writes"],
        sessions=sum(len(w["findings"]) for w in told["workloads"] if w["name"] == "sessions"),
        duplicates=sum(one.startswith(f"{DUPLICATE}:") for one in found),
        two_primaries=checks.get(ONE_PRIMARY, {}).get("ruling") == "broken",
    )


def _measured(checks: Mapping[str, Mapping[str, Any]], name: str) -> str:
    return str(checks.get(name, {}).get("measured", ""))


def broken_in(headline: Headline, run: Run) -> Iterator[str]:
    """Yield what a run broke of what is promised."""
    if headline.gap_s is not None and run.gap_s is not None and run.gap_s > headline.gap_s:
        yield f"no write for {run.gap_s:.2f} s"
    if headline.failed is not None and run.failed > headline.failed:
        yield f"{run.failed} requests failed"
    if headline.share is not None and run.share is not None and run.share >= headline.share:
        yield f"{run.share:.2%} of requests failed"
    if run.failed_reads:
        yield f"{run.failed_reads} eventual reads failed at a surviving edge"
    if run.lost:
        yield f"{run.lost} acknowledged writes are lost"
    if run.sessions:
        yield f"{run.sessions} violations of sessions"
    if run.duplicates:
        yield f"{run.duplicates} duplicates"
    if run.two_primaries:
        yield "two nodes acknowledged at once"


def page(
    found: Sequence[tuple[Headline, Sequence[Run]]], rate: float, vus: int
) -> tuple[list[str], bool]:
    """Return the tables, and whether all that is promised was kept."""
    columns = (
        "drill", "runs", "unknown", "longest time without a write", "wanted", "RTO", "failed",
        "eventual reads failed", "set apart", "lost", "session violations", "duplicates",
        "two primaries", "verdict",
    )  # fmt: skip
    load = f"{rate:g} requests a second by up to {vus} users, open loop"
    lines = [
        "# Failover",
        "",
        f"iad, lhr and a witness, round trips as measured; {load}. The worst of all known runs.",
        "",
        f"| {' | '.join(columns)} |",
        "|" + " --- |" * len(columns),
    ]
    rows = [_row(headline, runs) for headline, runs in found]
    lines += [line for line, _ in rows]
    lines += ["", "| drill | published |", "| --- | --- |"]
    lines += [f"| {headline.name} | {headline.published} |" for headline, _ in found]
    for headline, runs in found:
        gaps = ", ".join(
            "?" if run.gap_s is None else f"{run.gap_s:.2f}"
            for run in sorted(runs, key=lambda run: -(run.gap_s or 0))
        )
        lines += ["", f"{headline.name}: {gaps} s"]
        lines += [f"- seed {run.seed} is unknown: {run.why}" for run in runs if _is_unknown(run)]
        lines += [
            f"- seed {run.seed}: {'; '.join(broken)}"
            for run in runs
            if not _is_unknown(run) and (broken := list(broken_in(headline, run)))
        ]
    return lines, all(good for _, good in rows)


def _is_unknown(run: Run) -> bool:
    return run.verdict == "unknown"


def _row(headline: Headline, runs: Sequence[Run]) -> tuple[str, bool]:
    known = [run for run in runs if not _is_unknown(run)]
    unknown = len(runs) - len(known)
    broken = any(True for run in known for _ in broken_in(headline, run))
    good = bool(known) and not broken and unknown <= max(1, UNKNOWN_AT_MOST * len(runs))
    verdict = "kept" if good else "broken" if broken else "unknown"
    wanted = "" if headline.gap_s is None else f"{headline.gap_s:g} s"
    cells = (
        headline.name, len(runs), unknown, _most([run.gap_s for run in known], " s"), wanted,
        _most([run.rto_s for run in known], " s"), _most([run.failed for run in known]),
        _most([run.failed_reads for run in known]), _most([run.apart for run in known]),
        _most([run.lost for run in known]), _most([run.sessions for run in known]),
        _most([run.duplicates for run in known]),
        "yes" if any(run.two_primaries for run in known) else "never", verdict,
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |", good


def _most(values: Sequence[float | None], unit: str = "") -> str:
    told = [value for value in values if value is not None]
    if not told:
        return "none"
    return f"{max(told):.2f}{unit}" if unit else f"{max(told):g}"
