from __future__ import annotations

import json
from dataclasses import replace

from bench.arm import Start
from bench.figures import Effort, Measured, Quantiles, Seen
from bench.load import Load
from bench.measure import Pair, Plan, Report
from bench.processes import Memory
from bench.report import as_json, lines

CALM = Effort(elapsed_s=20, cpu_s=2, delay_ms=0.1)
STARVED = Effort(elapsed_s=20, cpu_s=2, delay_ms=7)


def measured(p50_ms: float, region: str) -> Measured:
    reads = Quantiles(1000, p50_ms, p50_ms + 1, p50_ms + 2, p50_ms + 3)
    nothing = Quantiles(0, None, None, None, None)
    seen = Seen(reads, nothing, {region: 1000}, {}, failed=0, dropped=0)
    return Measured(1000, region, seen, CALM, CALM, idle=0.6)


MACHINE = {
    "viral-engine": "0.1.0", "cpu": "a CPU", "cores": 2, "memory_bytes": 4 * 1024**3,
    "system": "Linux 6", "python": "3.11.7", "engines": {"postgres": "18.6"}, "network": "wan",
    "network_reason": "as root", "rtt_factor": 1.0, "network_seed": 0,
}  # fmt: skip
REPORT = Report(
    plan=Plan(50, 20, 5),
    machine=MACHINE,
    round_trip_ms=78,
    cold=Start(24, {"Wait for a primary": 8}),
    again=Start(15, {"Wait for a primary": 4}),
    far_cold=Start(20, {"Wait for a primary": 7}),
    pairs={"reads": Pair(Load("lhr", 50, 20), measured(8, "lhr"), measured(84, "iad"))},
    memory=Memory({"app": 3 * 1024**3}, processes=60, by_rss=0),
)


def row(report: Report, name: str) -> list[str]:
    found = next(line for line in lines(report) if line.strip().startswith(name))
    return [cell.strip() for cell in found.split("  ") if cell.strip()]


def test_the_table_tells_both_arms_their_ratio_and_the_verdict() -> None:
    assert row(REPORT, "reads p50") == ["reads p50", "8.0 ms", "84.0 ms", "10.5×", "10×: kept"]


def test_the_ratio_to_the_bare_distance_is_told_too() -> None:
    assert "9.8×" in row(REPORT, "the bare round trip")[-1]


def test_aims_are_told_as_reached_or_missed() -> None:
    assert row(REPORT, "ready, from nothing")[-1] == "aim 25 s: reached"
    missed = "aim 2048 MiB: missed, 1.50 times what is aimed at"
    assert row(REPORT, "memory after the load")[-1] == missed


def test_figures_that_were_not_measured_are_not_printed() -> None:
    pair = REPORT.pairs["reads"]
    starved = replace(REPORT, pairs={"reads": replace(pair, near=replace(pair.near, k6=STARVED))})
    text = "\n".join(lines(starved))
    assert "8.0 ms" not in text
    assert "84.0 ms" not in text
    assert "×: unknown" in text
    assert "reads, A: k6 was starved: each time 7.0 ms for a CPU" in text
    told = as_json(starved)
    assert told["p50_ratio"] is None
    assert told["verdicts"]["reads"]["state"] == "unknown"


def test_programs_get_every_figure_and_the_verdicts() -> None:
    told = json.loads(json.dumps(as_json(REPORT)))
    assert told["p50_ratio"] == 10.5
    assert told["verdicts"]["reads"] == {"state": "kept", "reasons": []}
    assert told["pairs"]["reads"]["near"]["seen"]["reads"]["p50_ms"] == 8
    assert told["memory"]["total"] == 3 * 1024**3
