"""Two nodes that acknowledge at one time are found; too little heard is no proof of anything."""

from __future__ import annotations

import json
from itertools import pairwise

from viral_engine.operations.drills.probes import (
    ENOUGH,
    Probe,
    lag_points,
    one_at_a_time,
    read_probes,
    role_spans,
)
from viral_engine.operations.drills.verdict import Ruling

STEP = 100_000_000
TOOK = 2_000_000


def probes(
    region: str, role: str, first: int, last: int, *, timeline: int | None = None,
    lsn: int | None = None, held: bool = False,
) -> list[Probe]:  # fmt: skip
    """Ten tries a second, from one number of them to another."""
    return [
        Probe(region, number * STEP, number * STEP + TOOK, role, timeline, lsn, held)
        for number in range(first, last)
    ]


def primary(region: str, first: int, last: int, timeline: int, *, lsn: int = 0) -> list[Probe]:
    return probes(region, "primary", first, last, timeline=timeline, lsn=lsn, held=True)


def replica(region: str, first: int, last: int, *, lsn: int = 0) -> list[Probe]:
    return probes(region, "replica", first, last, lsn=lsn)


def test_a_primary_that_moves_and_comes_back_is_one_at_a_time() -> None:
    told = {
        "iad": [*primary("iad", 0, 50, 1), *replica("iad", 60, 100), *primary("iad", 100, 150, 3)],
        "lhr": [*replica("lhr", 0, 52), *primary("lhr", 52, 98, 2), *replica("lhr", 99, 150)],
    }
    assert one_at_a_time(told).ruling is Ruling.KEPT


def test_two_nodes_that_acknowledge_at_one_time_are_found() -> None:
    told = {
        "iad": primary("iad", 0, 70, 1),
        "lhr": [*replica("lhr", 0, 65), *primary("lhr", 65, 150, 2)],
    }
    verdict = one_at_a_time(told)
    assert verdict.ruling is Ruling.BROKEN
    assert "iad (timeline 1) and lhr (timeline 2)" in str(verdict.findings[0])
    assert "0.398 s" in str(verdict.findings[0])


def test_an_old_primary_that_acknowledges_once_more_after_the_new_one_did_is_found() -> None:
    late = primary("iad", 100, 101, 1)
    told = {
        "iad": [*primary("iad", 0, 60, 1), *probes("iad", "silent", 60, 100), *late],
        "lhr": [*replica("lhr", 0, 65), *primary("lhr", 65, 90, 2)],
    }
    assert one_at_a_time(told).ruling is Ruling.BROKEN


def test_a_primary_without_primacy_acknowledges_nothing() -> None:
    fenced = probes("iad", "primary", 60, 150, timeline=1)
    told = {
        "iad": [*primary("iad", 0, 60, 1), *fenced],
        "lhr": [*replica("lhr", 0, 65), *primary("lhr", 65, 150, 2)],
    }
    assert one_at_a_time(told).ruling is Ruling.KEPT


def test_with_few_tries_of_one_node_nothing_is_known() -> None:
    told = {"iad": primary("iad", 0, 100, 1), "lhr": replica("lhr", 0, ENOUGH - 1)}
    verdict = one_at_a_time(told)
    assert (verdict.ruling, verdict.why) == (Ruling.UNKNOWN, "too few tries: lhr")
    assert one_at_a_time({}).ruling is Ruling.UNKNOWN


def test_where_nobody_acknowledged_nothing_is_known() -> None:
    told = {region: replica(region, 0, 100) for region in ("iad", "lhr")}
    assert one_at_a_time(told).ruling is Ruling.UNKNOWN


def test_what_a_machine_that_was_killed_had_said_is_read() -> None:
    whole = {"sent": 1, "answered": 2, "role": "silent", "why": "it is shut down"}
    found = read_probes([json.dumps(whole), '{"sent": 3, "ans'], "iad")
    assert found == [Probe("iad", 1, 2, "silent")]


def test_roles_are_told_from_each_change_to_the_next() -> None:
    told = [
        *primary("iad", 0, 30, 1), *probes("iad", "primary", 30, 40, timeline=1),
        *probes("iad", "silent", 40, 70), *replica("iad", 70, 100),
    ]  # fmt: skip
    spans = role_spans(told)
    assert [one.role for one in spans] == ["primary", "fenced", "silent", "replica"]
    assert all(one.ends == other.begins for one, other in pairwise(spans))


def test_lag_is_counted_against_the_primary_and_unknown_while_there_is_none() -> None:
    told = {
        "iad": [*primary("iad", 0, 30, 1, lsn=500), *probes("iad", "silent", 30, 60)],
        "lhr": replica("lhr", 0, 60, lsn=420),
    }
    points = lag_points(told, "lhr", zero=0, every_s=0.5)
    known = [lag for at, lag in points if 0.5 <= at < 3]
    assert set(known) == {80}
    assert {lag for at, lag in points if at > 4} == {None}
    assert {lag for _, lag in lag_points(told, "iad", zero=0, every_s=0.5)} == {None}
