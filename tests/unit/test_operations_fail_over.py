"""A planned failover is refused, with the reason, wherever it could lose something."""

from __future__ import annotations

from dataclasses import replace

import pytest

from viral_engine.errors import MisuseError, RefusedError
from viral_engine.lsn import Lsn
from viral_engine.operations.fail_over import Outcome, plan_failover
from viral_engine.operations.formation import Formation, Standing, standing_of

VOICES = {"iad": True, "lhr": True, "yyz": True}
PRIMARY = Standing(
    "iad", "db", "1", role="primary", received=Lsn(5000), synchronous=("lhr",), primacy="iad",
    unchanged_s=0.4, remaining_s=3.1, majority=True, voices=VOICES,
)  # fmt: skip
STANDBY = Standing(
    "lhr", "db", "2", role="replica", received=Lsn(4000), streaming=True, synchronous=("lhr",),
    primacy="iad", unchanged_s=0.5, majority=True, voices=VOICES,
)  # fmt: skip
WELL = Formation("iad", (PRIMARY, STANDBY))


def with_primary(**changes: object) -> Formation:
    return replace(WELL, databases=(replace(PRIMARY, **changes), STANDBY))  # type: ignore[arg-type]  # fields by name


def with_standby(**changes: object) -> Formation:
    return replace(WELL, databases=(PRIMARY, replace(STANDBY, **changes)))  # type: ignore[arg-type]  # fields by name


def test_a_healthy_deployment_is_handed_over_in_three_steps() -> None:
    plan = plan_failover(WELL, "lhr")
    assert (plan.was, plan.to, plan.lag_bytes) == ("iad", "lhr", 1000)
    assert plan.steps == (
        "Hand the primary over from iad to lhr",
        "Wait until lhr acknowledges writes",
        "Wait until iad streams again as synchronous standby",
    )


@pytest.mark.parametrize(
    ("formation", "said"),
    [
        (with_primary(role="unknown", remaining_s=None), "No primary acknowledges"),
        (with_primary(remaining_s=None), "No primary acknowledges"),
        (with_primary(paused=True), "paused"),
        (with_primary(synchronous=()), "not the synchronous standby"),
        (with_primary(synchronous=("nrt",)), "not the synchronous standby"),
        (with_primary(voices=VOICES | {"yyz": False}), "yyz"),
        (with_primary(majority=False), "etcd"),
        (with_standby(error="its machine is stopped"), "its machine is stopped"),
        (with_standby(streaming=False), "does not stream"),
        (with_standby(received=None), "how far"),
        (
            replace(WELL, databases=(*WELL.databases, Standing("nrt", "db", "3", error="silent"))),
            "nrt",
        ),
    ],
)
def test_what_speaks_against_it_is_said_and_nothing_is_planned(
    formation: Formation, said: str
) -> None:
    with pytest.raises(RefusedError, match=said):
        plan_failover(formation, "lhr")


def test_a_lag_above_the_limit_is_refused_with_both_figures() -> None:
    with pytest.raises(RefusedError, match="1000 bytes behind iad, and the limit is 999"):
        plan_failover(WELL, "lhr", max_lag=999)
    assert plan_failover(WELL, "lhr", max_lag=1000).lag_bytes == 1000


def test_a_region_without_a_database_is_misuse_that_names_the_others() -> None:
    with pytest.raises(MisuseError) as refused:
        plan_failover(WELL, "yyz")
    assert (refused.value.exit_code, "iad, lhr" in refused.value.suggestion) == (2, True)


def test_the_present_primary_is_no_target() -> None:
    formation = Formation("iad", (PRIMARY, STANDBY))
    with pytest.raises(MisuseError, match="iad is the primary already"):
        plan_failover(formation, "iad")


@pytest.mark.parametrize(
    "formation",
    [
        with_standby(streaming=False),
        with_primary(synchronous=()),
        with_primary(remaining_s=None),
    ],
)
def test_an_interrupted_failover_is_finished_by_the_same_command(formation: Formation) -> None:
    plan = plan_failover(formation, "iad")
    assert plan.handed_over
    assert plan.steps == (
        "Wait until iad acknowledges writes",
        "Wait until lhr streams again as synchronous standby",
    )


def test_a_primary_without_primacy_counts_only_where_nobody_keeps_it() -> None:
    lost = replace(PRIMARY, remaining_s=-1.0)
    assert not lost.acknowledges
    assert replace(lost, guarded=False).acknowledges
    both = Formation("iad", (lost, replace(STANDBY, role="primary", remaining_s=2.0)))
    assert both.primary is both.databases[1]


def test_what_is_true_afterwards_is_one_sentence() -> None:
    assert Outcome("lhr", "iad", ("iad",), 2.13).sentence() == (
        "primary lhr (was iad), standby iad synchronous, writes paused for about 2.1 s"
    )
    assert Outcome("lhr", "iad", ()).sentence() == "primary lhr (was iad)"


def test_what_a_machine_tells_of_itself_is_read_as_it_is() -> None:
    said = {
        "role": "replica", "received": "0/10", "replayed": "0/8", "streaming": True, "timeline": 2,
        "lock": "iad", "last_primary": "iad", "last_position": "0/20", "synchronous": ["lhr"],
        "paused": None, "guarded": True, "majority": False, "voices": {"iad": False}, "operator": None,
        "primacy": {"region": "iad", "unchanged_seconds": 6.2, "remaining_seconds": None},
    }  # fmt: skip
    read = standing_of(said, region="lhr", app="db", machine="2")
    assert (read.received, read.last_position, read.sees_renewed()) == (Lsn(16), Lsn(32), None)
    silent: dict[str, object] = {"role": "unknown", "primacy": None}
    assert standing_of(silent, region="lhr", app="db", machine="2").majority is False
