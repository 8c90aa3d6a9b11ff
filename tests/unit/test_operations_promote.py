"""A promotion says what it costs, fences who could acknowledge, and never guesses who is gone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from viral_engine.errors import MisuseError, RefusedError
from viral_engine.lsn import Lsn
from viral_engine.operations.formation import Attendance, Formation, Standing
from viral_engine.operations.promote import is_safe_to_rebuild, plan_promotion

VOICES = {"iad": False, "lhr": True, "yyz": True}
LOST = Standing("iad", "db", "1", error="silent")
SURVIVOR = Standing(
    "lhr", "db", "2", role="replica", received=Lsn(4000), lock="iad", last_primary="iad",
    last_position=Lsn(4500), synchronous=("lhr",), primacy="iad", unchanged_s=7.0, majority=True,
    voices=VOICES,
)  # fmt: skip
MACHINES = tuple(
    Attendance(region, "db", number, f"{role}-{region}", role, running=True, healthy=True,
               cordoned=False)
    for region, number, role in (("iad", "1", "database"), ("lhr", "2", "database"),
                                 ("yyz", "3", "witness"))
)  # fmt: skip
PRIMARY_LOST = Formation("iad", (LOST, SURVIVOR), MACHINES)
ALONE = replace(
    PRIMARY_LOST,
    databases=(LOST, replace(SURVIVOR, majority=False, voices=VOICES | {"yyz": False})),
)


def alive(**changes: object) -> Formation:
    primary = Standing("iad", "db", "1", role="primary", received=Lsn(4600), primacy="iad",
                       remaining_s=3.0, majority=True, voices=VOICES)  # fmt: skip
    primary = replace(primary, **changes)  # type: ignore[arg-type]  # fields by name
    return Formation("iad", (primary, replace(SURVIVOR, unchanged_s=0.5)), MACHINES)


def test_a_lost_primary_is_fenced_before_another_is_promoted() -> None:
    plan = plan_promotion(PRIMARY_LOST, "lhr", force=False)
    assert (plan.was, plan.alive, plan.rebuild) == ("iad", False, False)
    assert plan.steps == (
        "Stop the database of iad, and see that it is stopped",
        "Promote lhr, and wait until it acknowledges writes",
    )


def test_what_may_be_lost_is_said_in_bytes_or_as_unknown() -> None:
    plan = plan_promotion(PRIMARY_LOST, "lhr", force=False)
    assert plan.losses.bytes == 500
    assert "At least 500 bytes" in plan.warnings[0]
    assert "no acknowledged write on a strong resource is lost" in plan.warnings[1]
    unknown = replace(SURVIVOR, last_position=None, synchronous=())
    plan = plan_promotion(replace(PRIMARY_LOST, databases=(LOST, unknown)), "lhr", force=False)
    assert plan.losses.bytes is None
    assert "unknown" in plan.warnings[0]
    assert "strong writes may be lost too" in plan.warnings[1]


def test_a_primary_that_lives_is_refused_and_with_force_fenced_first() -> None:
    for formation in (alive(), alive(role="unknown", remaining_s=None)):
        with pytest.raises(RefusedError, match="iad is alive") as refused:
            plan_promotion(formation, "lhr", force=False)
        assert "viral failover --to lhr" in refused.value.suggestion
    plan = plan_promotion(alive(), "lhr", force=True)
    assert plan.alive
    assert plan.steps[0].startswith("Stop the database of iad")
    assert plan.losses.bytes == 600


def test_without_a_majority_only_force_rebuilds_and_stops_every_other_vote() -> None:
    with pytest.raises(RefusedError, match="no majority") as refused:
        plan_promotion(ALONE, "lhr", force=False)
    assert "viral promote lhr --force" in refused.value.suggestion
    plan = plan_promotion(ALONE, "lhr", force=True)
    assert plan.rebuild
    assert [(one.region, one.role) for one in plan.fence] == [
        ("iad", "database"), ("yyz", "witness")
    ]  # fmt: skip
    assert "Rebuild etcd from lhr alone" in plan.steps[2]


def test_what_is_stopped_already_is_not_stopped_again() -> None:
    stopped = replace(LOST, running=False)
    machines = tuple(replace(one, running=one.region == "lhr") for one in MACHINES)
    found = replace(ALONE, databases=(stopped, ALONE.databases[1]), machines=machines)
    assert plan_promotion(found, "lhr", force=True).fence == ()


def test_three_regions_fence_the_old_primary_alone_while_there_is_a_majority() -> None:
    third = replace(SURVIVOR, region="nrt", machine="4", synchronous=("lhr",))
    found = replace(PRIMARY_LOST, databases=(LOST, SURVIVOR, third))
    plan = plan_promotion(found, "nrt", force=True)
    assert [one.region for one in plan.fence] == ["iad"]
    assert not plan.losses.synchronous


@pytest.mark.parametrize(
    ("voices", "stopped", "safe"),
    [
        ("iad lhr yyz", "iad yyz", True),
        ("iad lhr yyz", "yyz", True),
        ("iad lhr yyz", "", False),
        ("iad", "iad", True),
        ("iad", "", False),
        ("iad lhr nrt fra yyz", "iad nrt", True),
        ("iad lhr nrt fra yyz", "iad", False),
    ],
)
def test_etcd_is_rebuilt_only_where_the_rest_is_too_few_to_go_on(
    voices: str, stopped: str, safe: bool
) -> None:
    assert is_safe_to_rebuild(voices.split(), "lhr", stopped.split()) is safe


def test_the_primary_and_a_region_without_a_database_are_no_targets() -> None:
    with pytest.raises(MisuseError, match="primary already"):
        plan_promotion(alive(), "iad", force=True)
    with pytest.raises(MisuseError, match="no database in yyz"):
        plan_promotion(alive(), "yyz", force=True)
    with pytest.raises(RefusedError, match="silent"):
        plan_promotion(PRIMARY_LOST, "iad", force=True)


def test_a_paused_cluster_promotes_nobody() -> None:
    paused = replace(PRIMARY_LOST, databases=(LOST, replace(SURVIVOR, paused=True)))
    with pytest.raises(RefusedError, match="paused"):
        plan_promotion(paused, "lhr", force=True)
