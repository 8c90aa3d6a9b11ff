from __future__ import annotations

import json
from pathlib import Path

from bench.load import DOOR, Load, k6_command, seen_in


def test_k6_goes_to_the_anycast_address_that_the_place_itself_knows() -> None:
    command = k6_command(Load("lhr", rate=50, seconds=20), Path("k6"), Path("out.json"))
    after = command[command.index("exec") :]
    assert after[:5] == ["exec", "lhr", "--", "sh", "-c"]
    assert '-e BASE_URL="$VIRAL_ANYCAST_URL"' in after[5]
    assert {"RATE=50", "DURATION=20s", "WRITE_RATIO=0.0", "SUMMARY=out.json"} <= set(after)
    assert after[-1].endswith("tests/load/k6-basic-load.js")


def test_k6_goes_by_the_door_where_that_is_measured() -> None:
    command = k6_command(Load("lhr", 50, 20, address=DOOR), Path("k6"), Path("out.json"))
    assert '-e BASE_URL="$VIRAL_URL"' in command[command.index("-c") + 1]


def test_figures_of_what_never_happened_are_none_and_not_zero() -> None:
    reads = {"count": 2, "p50_ms": 8, "p95_ms": 9, "p99_ms": 9, "max_ms": 9}
    nothing = {"count": 0, "p50_ms": 0, "p95_ms": 0, "p99_ms": 0, "max_ms": 0}
    told = {
        "reads": {**reads, "served_by": {"lhr": 2}},
        "writes": {**nothing, "served_by": {}},
        "failed": 1,
        "dropped_iterations": 3,
    }
    seen = seen_in(json.dumps(told))
    assert (seen.reads.p50_ms, seen.writes.p50_ms) == (8, None)
    assert (seen.count, seen.failed, seen.dropped, seen.read_by) == (2, 1, 3, {"lhr": 2})
