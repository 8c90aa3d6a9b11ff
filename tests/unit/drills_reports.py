"""Reports of drills for the tests of their page: a black hole of a minute, drawn from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

SECONDS, BUCKET, RATE = 60, 0.5, {"read-eventual": 12, "read-strong": 4, "write": 8}
FAULT, PROMOTED, HEALED = 20.0, 28.4, 45.0
REGIONS = ("iad", "lhr")


def black_hole(seed: int = 7, **more: Any) -> dict[str, Any]:
    """A drill that was kept: ``iad`` is lost to all others for 25 s, and ``lhr`` takes over."""
    random = Random(seed)
    series = [_series(random, region, kind) for region in REGIONS for kind in RATE]
    return {
        "drill": "black-hole",
        "sentence": "The primary's region vanishes from the network: no packet, no refusal.",
        "seed": seed, "network": "wan", "regions": ["iad", "lhr", "yyz"], "primary": "iad",
        "started_at": "2026-11-25T21:52:19+00:00", "verdict": "kept", "why": "",
        "rto_seconds": 8.437, "rpo_writes": 0, "error_rate": 0.0931, "error_rate_in_window": 0.2231,
        "load": {"rate_per_s": 24.0, "vus": 100, "duration_s": 60.0, "scheduled": 2880, "dropped": 0,
                 "generator_cpu": 0.114, "idle_cpu": 0.337},
        "checks": CHECKS,
        "requests": [_requests(one) for one in series],
        "marks": [
            {"at_s": 0.0, "what": "load begins; iad is the primary"},
            {"at_s": FAULT, "what": "iad is cut off from all other regions"},
            {"at_s": 23.1, "what": "users of iad are led to lhr"},
            {"at_s": 24.6, "what": "the lock of the primary is revoked"},
            {"at_s": PROMOTED, "what": "writes succeed elsewhere"},
            {"at_s": HEALED, "what": "iad is back"},
            {"at_s": 52.2, "what": "iad streams from lhr again"},
            {"at_s": 59.4, "what": "all is well; lhr is the primary"},
        ],
        "timeline": {
            "bucket_s": BUCKET,
            "series": series,
            "roles": [
                {"region": "iad", "spans": [
                    {"from_s": 0.4, "to_s": FAULT, "role": "primary"},
                    {"from_s": FAULT, "to_s": 24.0, "role": "unknown"},
                    {"from_s": 24.0, "to_s": HEALED, "role": "gone"},
                    {"from_s": HEALED, "to_s": 60.0, "role": "replica"},
                ]},
                {"region": "lhr", "spans": [
                    {"from_s": 0.4, "to_s": PROMOTED, "role": "replica"},
                    {"from_s": PROMOTED, "to_s": 60.0, "role": "primary"},
                ]},
            ],
            "lag": [
                {"region": "iad", "points": [*_lag(random, HEALED, 60)]},
                {"region": "lhr", "points": [*_lag(random, 0, FAULT), [FAULT + 1, None]]},
            ],
        },
        "workloads": WORKLOADS,
        "witnesses": [
            {"fault": "iad is cut off from lhr", "by": "the hub's counters", "ruling": "kept",
             "saw": "1,204 packets dropped, none passed for 25.0 s"},
            {"fault": "iad is cut off from yyz", "by": "a ping through the pair", "ruling": "kept",
             "saw": "no answer from 20.1 s to 45.0 s"},
        ],
    } | more  # fmt: skip


CHECKS: list[dict[str, Any]] = [
    {"name": "every fault was there", "ruling": "kept", "target": "seen", "measured": "2 seen",
     "why": "", "findings": []},
    {"name": "time without a successful write", "ruling": "kept", "target": "at most 12 s",
     "measured": "iad 8.31 s, lhr 8.44 s", "why": "", "findings": []},
    {"name": "acknowledged strong writes lost", "ruling": "kept", "target": "0", "measured": "0",
     "why": "", "findings": []},
    {"name": "eventual reads that failed at a surviving edge", "ruling": "broken",
     "target": "at most 0", "measured": "6", "why": "",
     "findings": [f"{n}.2 s, lhr read-eventual: 503 no-primary" for n in range(20, 26)]},
    {"name": "two primaries at one time", "ruling": "unknown", "target": "never", "measured": "",
     "why": "the probe in iad did not come back", "findings": []},
    {"name": "etcd kept its leader", "ruling": "kept", "target": "no election",
     "measured": "term 3 before, 3 after", "why": "", "findings": []},
]  # fmt: skip
WORKLOADS: list[dict[str, Any]] = [
    {"name": name, "verdict": verdict, "why": why, "operations": operations, "findings": findings,
     "at_stake": {"acknowledged writes before the fault": 76, "after it began": 228,
                  "reads answered after it began": 407}}
    for name, verdict, why, operations, findings in (
        ("strong", "kept", "", 847, []),
        ("sessions", "kept", "", 613, []),
        ("bank", "broken", "", 498, ["total: #812 reader-lhr-0 read 'bank': None found 2,499 in all"]),
        ("list-append", "unknown", "nothing was at stake: no transfers", 0, []),
    )
]  # fmt: skip


def _series(random: Random, region: str, kind: str) -> dict[str, Any]:
    ok, failed, p95 = [], [], []
    for place in range(int(SECONDS / BUCKET)):
        at = place * BUCKET
        due = round(RATE[kind] * BUCKET + random.uniform(-0.4, 0.4))
        lost = FAULT <= at < FAULT + 3 and region == "iad"
        held = FAULT <= at < PROMOTED and kind != "read-eventual"
        bad = due if lost or (held and random.random() < 0.7) else 0
        if kind == "write" and FAULT <= at < PROMOTED:
            bad = due
        ok.append(due - bad)
        failed.append(bad)
        usual = {"read-eventual": 9, "read-strong": 12, "write": 22}[kind]
        usual += 76 if (region == "iad") == (at > PROMOTED) and kind != "read-eventual" else 0
        slow = random.uniform(2000, 4800) if held else usual * random.lognormvariate(0.1, 0.35)
        p95.append(None if lost or (due - bad == 0 and random.random() < 0.6) else round(slow, 1))
    return {"region": region, "kind": kind, "ok": ok, "failed": failed, "p95_ms": p95}


def _requests(series: dict[str, Any]) -> dict[str, Any]:
    ok, failed = sum(series["ok"]), sum(series["failed"])
    known = sorted(ms for ms in series["p95_ms"] if ms is not None)
    in_window = sum(series["ok"][40:90]), sum(series["failed"][40:90])
    return {
        "region": series["region"], "kind": series["kind"], "scheduled": ok + failed, "ok": ok,
        "failed": failed, "dropped": 0, "in_flight_at_lost_edge": 2 * (series["region"] == "iad"),
        "error_rate": failed / (ok + failed),
        "window": {"scheduled": sum(in_window), "failed": in_window[1],
                   "error_rate": in_window[1] / sum(in_window)},
        "p50_ms": known[len(known) // 2], "p95_ms": known[-6], "p99_ms": known[-2],
        "max_ms": known[-1], "longest_gap_s": 8.437 if failed else 0.3,
        "reasons": {"503 no-primary": failed - 2, "no answer": 2} if failed > 2 else {},
    }  # fmt: skip


def _lag(random: Random, start: float, end: float) -> Iterator[list[float | None]]:
    behind = 40_000 if start else 0
    for place in range(int(2 * (end - start))):
        behind = round(behind * 0.7)
        yield [start + place / 2, behind + random.choice([0, 0, 180, 420, 960, 2400])]
