"""What must hold is ruled from the evidence: nothing is green that was not seen, tried or sound."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf
from typing import Any

import pytest
from tests.unit.drills_samples import REGIONS, steady, write
from tests.unit.test_drills_probes import primary, replica

from viral_engine.operations.drills.cast import Look
from viral_engine.operations.drills.checks import RETRIED, SHARE, Evidence, checks_of, rto_of
from viral_engine.operations.drills.company import with_stakes
from viral_engine.operations.drills.conclusion import concluded, unplayed
from viral_engine.operations.drills.ledger import judged
from viral_engine.operations.drills.load import Effort, LoadPlan
from viral_engine.operations.drills.options import Options
from viral_engine.operations.drills.repertoire import shipped
from viral_engine.operations.drills.result import Result, as_json, worst
from viral_engine.operations.drills.samples import READ, WRITE, Window
from viral_engine.operations.drills.stories import Mark
from viral_engine.operations.drills.story import Expect
from viral_engine.operations.drills.verdict import Finding, Ruling, Verdict
from viral_engine.operations.drills.witness import Seen
from viral_engine.operations.drills.workload import Judged

STORY = shipped()["switchover"]
KEPT = Verdict(Ruling.KEPT)
PLAN = LoadPlan(REGIONS, rate=4, vus=100, seconds=30, run="r", places=["/api/tasks/1"])
SEEN = Seen("switchover to lhr", "its own database", Ruling.KEPT, "timeline 1 before, 2 then")
CALM = [
    one
    for region in REGIONS
    for kind in (READ, WRITE)
    for one in steady(30, region=region, kind=kind)
]


@pytest.fixture
def good() -> Evidence:
    """A switchover in which all was as it should be."""
    return Evidence(
        story=STORY, plan=PLAN, effort=Effort(0.03, 0.4), samples=CALM, fault=Window(10, 14),
        window=Window(10, 24), regions=("iad", "lhr", "yyz"), surviving=frozenset(REGIONS),
        before=Look("iad", 1, "yyz", 3), after=Look("lhr", 2, "yyz", 3),
        probes={
            "iad": [*primary("iad", 0, 100, 1), *replica("iad", 120, 300)],
            "lhr": [*replica("lhr", 0, 110), *primary("lhr", 110, 300, 2)],
        },
        workloads={"strong": Judged(KEPT, 100, {"writes": 5})}, ledger=KEPT, seen=[SEEN],
    )  # fmt: skip


def ruled(evidence: Evidence, name: str) -> tuple[Ruling, str]:
    (found,) = [one for one in checks_of(evidence) if name in one.name]
    return found.ruling, found.why


def verdict(evidence: Evidence) -> Ruling:
    return worst(one.ruling for one in checks_of(evidence))


def test_a_drill_in_which_all_was_as_it_should_be_is_kept(good: Evidence) -> None:
    assert {one.name: one.why for one in checks_of(good) if one.ruling is not Ruling.KEPT} == {}


def test_a_fault_that_no_second_look_saw_makes_it_unknown(good: Evidence) -> None:
    blind = replace(SEEN, ruling=Ruling.UNKNOWN, saw="timeline 1 before, 1 then")
    evidence = replace(good, seen=[blind])
    assert verdict(evidence) is Ruling.UNKNOWN
    assert "timeline 1 before, 1 then" in ruled(evidence, "every fault")[1]


def test_an_injector_that_does_nothing_and_says_nothing_makes_it_unknown(good: Evidence) -> None:
    assert verdict(replace(good, seen=[])) is Ruling.UNKNOWN


@pytest.mark.parametrize("effort", [Effort(0.71, 0.4), Effort(0.1, 0.04)])
def test_a_load_that_was_short_of_cpu_makes_it_unknown(good: Evidence, effort: Effort) -> None:
    assert verdict(replace(good, effort=effort)) is Ruling.UNKNOWN


def test_requests_that_were_never_sent_while_nothing_was_broken_make_it_unknown(
    good: Evidence,
) -> None:
    dropped = write(5, took=0, ok=False, dropped=True)
    assert verdict(replace(good, samples=[*CALM, dropped])) is Ruling.UNKNOWN
    within = write(15, took=0, ok=False, dropped=True)
    assert verdict(replace(good, samples=[*CALM, within])) is Ruling.BROKEN


def test_an_election_that_the_story_has_not_makes_it_unknown(good: Evidence) -> None:
    elected = replace(good, after=Look("lhr", 2, "iad", 4))
    assert ruled(elected, "etcd kept")[0] is Ruling.UNKNOWN
    may = replace(STORY, expect=replace(STORY.expect, election=True))
    assert ruled(replace(elected, story=may), "etcd kept")[0] is Ruling.KEPT


def test_a_slow_handover_is_broken_and_on_an_unsound_rig_unknown(good: Evidence) -> None:
    slow = [one for one in CALM if one.kind == READ or not 11 <= one.due < 17]
    evidence = replace(good, samples=slow)
    assert ruled(evidence, "time without") == (Ruling.BROKEN, "too long in iad, lhr")
    starved = replace(evidence, effort=Effort(0.9, 0.01))
    assert ruled(starved, "time without")[0] is Ruling.UNKNOWN
    assert verdict(starved) is Ruling.UNKNOWN


def test_a_failed_read_at_a_surviving_edge_is_broken_and_one_set_apart_is_not(
    good: Evidence,
) -> None:
    failed = write(12, ok=False, kind=READ)
    assert ruled(replace(good, samples=[*CALM, failed]), "eventual reads")[0] is Ruling.BROKEN
    apart = replace(failed, apart=True, at_last=True)
    evidence = replace(good, samples=[*CALM, apart])
    assert ruled(evidence, "eventual reads")[0] is Ruling.KEPT
    assert ruled(evidence, "at a lost edge")[0] is Ruling.KEPT


def test_a_request_at_a_lost_edge_that_fails_again_is_broken_but_of_users_who_are_cut_off(
    good: Evidence,
) -> None:
    apart = replace(write(12, ok=False), apart=True)
    evidence = replace(good, samples=[*CALM, apart])
    assert ruled(evidence, "at a lost edge") == (Ruling.BROKEN, "1 failed also then")
    inside = replace(evidence, cut_off=frozenset({apart.region}))
    assert not any(one.name == RETRIED for one in checks_of(inside))


def test_a_share_of_failures_is_of_all_requests_and_must_stay_below_what_is_said(
    good: Evidence,
) -> None:
    story = replace(STORY, expect=replace(STORY.expect, failed=None, share=0.01))
    evidence = replace(good, story=story)
    assert ruled(evidence, "share of all")[0] is Ruling.KEPT
    many = [write(12, ok=False)] * (len(CALM) // 50)
    over = replace(evidence, samples=[*CALM, *many])
    assert ruled(over, "share of all")[0] is Ruling.BROKEN
    assert not any(one.name == SHARE for one in checks_of(good))


def test_two_nodes_that_acknowledge_are_broken_also_on_an_unsound_rig(good: Evidence) -> None:
    both = {"iad": primary("iad", 0, 200, 1), "lhr": good.probes["lhr"]}
    starved = replace(good, probes=both, effort=Effort(0.9, 0.01))
    assert ruled(starved, "no two nodes")[0] is Ruling.BROKEN
    assert verdict(starved) is Ruling.BROKEN


def test_a_lost_write_of_the_load_is_found_and_counted_once(good: Evidence) -> None:
    names = [one.name for one in CALM if one.kind == WRITE]
    final: dict[str, Any] = {
        region: [name for name in names if name != "lhr-3"] for region in REGIONS
    }
    evidence = replace(good, ledger=judged(CALM, final))
    assert verdict(evidence) is Ruling.BROKEN
    assert result(evidence).rpo_writes == 1
    assert result(good).rpo_writes == 0


def test_a_write_that_happened_twice_is_found(good: Evidence) -> None:
    names = [one.name for one in CALM if one.kind == WRITE]
    final: dict[str, Any] = {region: [*names, "lhr-3"] for region in REGIONS}
    assert verdict(replace(good, ledger=judged(CALM, final))) is Ruling.BROKEN


@pytest.mark.parametrize(
    ("moves", "after", "ruling"),
    [
        ("yes", Look("iad", 1, "yyz", 3), Ruling.BROKEN),
        ("no", Look("lhr", 2, "yyz", 3), Ruling.BROKEN),
        ("no", Look("iad", 1, "yyz", 3), Ruling.KEPT),
        ("either", Look("lhr", 2, "yyz", 3), Ruling.KEPT),
        ("either", None, Ruling.BROKEN),
    ],
)
def test_the_primary_is_where_the_story_wants_it(
    good: Evidence, moves: str, after: Look | None, ruling: Ruling
) -> None:
    evidence = replace(good, story=replace(STORY, expect=Expect(moves=moves)), after=after)
    assert ruled(evidence, "the primary is")[0] is ruling


def test_a_workload_that_found_a_violation_breaks_the_drill(good: Evidence) -> None:
    broken = Judged(Verdict(Ruling.BROKEN, (Finding("monotonic-reads", "time went back"),)), 9, {})
    evidence = replace(good, workloads={"sessions": broken})
    assert verdict(evidence) is Ruling.BROKEN
    assert "time went back" in result(evidence).why


def test_a_workload_in_which_nothing_was_at_stake_is_unknown() -> None:
    found = with_stakes(Judged(KEPT, 10, {"writes": 5, "moves": 0}))
    assert (found.verdict.ruling, found.verdict.why) == (
        Ruling.UNKNOWN, "nothing was at stake: no moves")  # fmt: skip
    assert with_stakes(Judged(KEPT, 10, {})).verdict.ruling is Ruling.UNKNOWN
    assert with_stakes(Judged(KEPT, 10, {"writes": 5})).verdict.ruling is Ruling.KEPT


def test_the_worst_ruling_stands_and_nothing_ruled_is_nothing_known() -> None:
    assert worst([Ruling.KEPT, Ruling.UNKNOWN, Ruling.BROKEN]) is Ruling.BROKEN
    assert worst([Ruling.KEPT, Ruling.UNKNOWN]) is Ruling.UNKNOWN
    assert worst([]) is Ruling.UNKNOWN


def test_a_region_whose_writes_never_succeed_is_broken_though_another_one_s_do(
    good: Evidence,
) -> None:
    samples = [
        replace(one, ok=False, status=503) if one.region == "lhr" and one.kind == WRITE else one
        for one in CALM
    ]
    evidence = replace(good, samples=samples)
    assert ruled(evidence, "time without") == (Ruling.BROKEN, "too long in lhr")
    assert rto_of(evidence) == inf


def test_the_time_to_write_is_the_worst_of_the_surviving_regions(good: Evidence) -> None:
    samples = [*CALM, write(12, took=2.5), write(12.5, took=2.2, region="iad")]
    pause = [
        one
        for one in samples
        if one.kind == READ or one.ended - one.due > 1 or not 12 <= one.due < 14.5
    ]
    assert rto_of(replace(good, samples=pause)) == pytest.approx(2.5, abs=0.2)
    assert rto_of(good) is None


def result(evidence: Evidence) -> Result:
    return concluded(
        evidence, seed=7, network="wan", started_at="2026-11-25T12:00:00+00:00", zero=0,
        marks=[Mark(1_500_000_000, "viral failover --to lhr")],
    )  # fmt: skip


MEMBERS = {"drill", "sentence", "seed", "network", "regions", "primary", "started_at", "verdict", "why",
           "rto_seconds", "rpo_writes", "error_rate", "error_rate_in_window", "load", "checks",
           "requests", "marks", "timeline", "workloads", "witnesses"}  # fmt: skip


def test_the_result_is_json_with_the_members_of_the_page(good: Evidence) -> None:
    told = as_json(result(good))
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert set(told) == MEMBERS == set(as_json(unplayed(STORY, Options(), "nothing was there")))
    assert told["verdict"] == "kept"
    assert set(told["load"]) == {"rate_per_s", "vus", "duration_s", "scheduled", "dropped",
                                 "generator_cpu", "idle_cpu"}  # fmt: skip
    assert set(told["checks"][0]) == {"name", "ruling", "target", "measured", "why", "findings"}
    assert set(told["requests"][0]) == {
        "region", "kind", "scheduled", "ok", "failed", "dropped", "in_flight_at_lost_edge",
        "error_rate", "window", "p50_ms", "p95_ms", "p99_ms", "max_ms", "longest_gap_s", "reasons",
    }  # fmt: skip
    assert told["marks"] == [{"at_s": 1.5, "what": "viral failover --to lhr"}]
    assert set(told["timeline"]) == {"bucket_s", "series", "roles", "lag"}
    assert set(told["timeline"]["series"][0]) == {"region", "kind", "ok", "failed", "p95_ms"}
    assert sum(told["timeline"]["series"][0]["ok"]) == 60
    assert set(told["timeline"]["roles"][0]["spans"][0]) == {"from_s", "to_s", "role"}
    assert set(told["workloads"][0]) == {
        "name",
        "verdict",
        "why",
        "operations",
        "at_stake",
        "findings",
    }
    assert told["witnesses"] == [
        {"fault": SEEN.fault, "by": SEEN.by, "ruling": "kept", "saw": SEEN.saw}
    ]


def test_what_is_infinite_has_no_number_in_json(good: Evidence) -> None:
    ended = [one for one in CALM if one.kind == READ or one.due < 12]
    failed = [write(12 + n / 2, ok=False, region=region) for n in range(36) for region in REGIONS]
    told = as_json(result(replace(good, samples=[*ended, *failed])))
    assert told["rto_seconds"] is None
    assert told["verdict"] == "broken"


def test_a_story_that_was_not_played_is_unknown_and_says_why() -> None:
    told = as_json(unplayed(STORY, Options(), "it did not come to its end"))
    assert (told["verdict"], told["why"]) == ("unknown", "it did not come to its end")
    assert told["rpo_writes"] is None
