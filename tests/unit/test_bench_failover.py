"""The table of failovers: the worst run stands, and what is unknown is listed and not averaged away."""

from __future__ import annotations

from dataclasses import replace

from bench.failover_report import HEADLINES, Run, broken_in, page, run_of

SWITCHOVER = HEADLINES[0]
GOOD = Run(1, "kept", gap_s=3.1, rto_s=2.9, share=0.0, lost=0)
UNKNOWN = Run(2, "unknown", "the load was short of CPU", gap_s=9.0)


def row(*runs: Run) -> tuple[str, bool]:
    lines, good = page([(SWITCHOVER, runs)], 20, 100)
    return next(line for line in lines if line.startswith("| switchover | ")), good


def test_the_worst_run_stands_in_the_table() -> None:
    line, good = row(GOOD, replace(GOOD, seed=2, gap_s=4.8), replace(GOOD, seed=3))
    assert good
    assert "| 3 | 0 | 4.80 s | 5 s | 2.90 s |" in line
    assert line.endswith("| never | kept |")


def test_one_run_beyond_the_target_breaks_it_and_is_named() -> None:
    slow = replace(GOOD, seed=4, gap_s=5.2)
    lines, good = page([(SWITCHOVER, [GOOD, slow])], 20, 100)
    assert not good
    assert "- seed 4: no write for 5.20 s" in lines


def test_every_broken_promise_of_a_run_is_told() -> None:
    run = replace(
        GOOD, failed=2, failed_reads=1, lost=3, sessions=4, duplicates=5, two_primaries=True
    )
    assert len(list(broken_in(SWITCHOVER, run))) == 6
    assert list(broken_in(SWITCHOVER, GOOD)) == []


def test_one_unknown_run_in_ten_is_allowed_and_listed_and_its_figures_count_for_nothing() -> None:
    line, good = row(*[GOOD] * 8, UNKNOWN)
    assert good
    assert "| 9 | 1 | 3.10 s |" in line
    lines, good = page([(SWITCHOVER, [*[GOOD] * 7, UNKNOWN, UNKNOWN])], 20, 100)
    assert not good
    assert "- seed 2 is unknown: the load was short of CPU" in lines


def test_nothing_known_is_nothing_kept() -> None:
    line, good = row(UNKNOWN)
    assert not good
    assert line.endswith("| unknown |")


def test_a_result_is_read_and_an_error_in_its_place_is_unknown() -> None:
    told = {
        "seed": 7, "verdict": "broken", "why": "x", "rto_seconds": 2.5, "rpo_writes": 1,
        "error_rate": 0.01, "error_rate_in_window": 0.02,
        "checks": [
            {"name": "time without a successful write", "measured": "iad 3.15 s, lhr 2.79 s"},
            {"name": "requests that failed at a surviving edge", "measured": "4"},
            {"name": "eventual reads that failed at a surviving edge", "measured": "0"},
            {"name": "no two nodes acknowledged at once", "ruling": "broken"},
            {"name": "acknowledged writes of the load are there, once, everywhere",
             "findings": ["twice: 'a' is 2 times in iad"]},
        ],
        "requests": [{"in_flight_at_lost_edge": 3}, {"in_flight_at_lost_edge": 1}],
        "workloads": [{"name": "sessions", "findings": ["monotonic-reads: back"]},
                      {"name": "strong", "findings": ["lost: 'b' is gone"]}],
    }  # fmt: skip
    run = run_of(told)
    assert run == Run(
        seed=7, verdict="broken", why="x", gap_s=3.15, rto_s=2.5, failed=4, apart=4, share=0.01,
        share_in_window=0.02, lost=1, sessions=1, duplicates=1, two_primaries=True,
    )  # fmt: skip
    failed = run_of({"error": {"message": "No globe runs."}})
    assert (failed.verdict, failed.why) == ("unknown", "No globe runs.")
