"""Machines leave in the order that costs no request, and what would cost the service is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from viral_engine.errors import MisuseError, RefusedError
from viral_engine.lsn import Lsn
from viral_engine.nodes.connections import connections
from viral_engine.operations.duty import Act, plan_duty
from viral_engine.operations.formation import Attendance, Formation, Standing

PLACES = (
    ("app-iad-1", "app"), ("database-iad", "database"), ("cache-iad", "cache"),
    ("app-lhr-1", "app"), ("app-lhr-2", "app"), ("database-lhr", "database"), ("cache-lhr", "cache"),
    ("witness-yyz", "witness"),
)  # fmt: skip


def machine(name: str, role: str) -> Attendance:
    region = next(part for part in name.split("-") if part in {"iad", "lhr", "yyz"})
    return Attendance(region, "app", f"id-{name}", name, role, running=True, healthy=True,
                      cordoned=False)  # fmt: skip


PRIMARY = Standing("iad", "app", "id-database-iad", role="primary", received=Lsn(1), remaining_s=3,
                   majority=True, voices={"iad": True, "lhr": True, "yyz": True})  # fmt: skip
STANDBY = Standing("lhr", "app", "id-database-lhr", role="replica", majority=True)
WELL = Formation("iad", (PRIMARY, STANDBY), tuple(machine(*place) for place in PLACES))


def changed(**of: str) -> Formation:
    """The same with some machines in another state, by the end of their name."""

    def now(one: Attendance) -> Attendance:
        state = of.get(one.name.replace("-", "_"), "")
        return replace(one, running=state != "both", cordoned=state in {"cordoned", "both"})

    machines = tuple(now(one) for one in WELL.machines)
    return replace(WELL, machines=machines)


def test_a_region_is_cordoned_by_the_machines_that_users_reach() -> None:
    plan = plan_duty(WELL, Act.CORDON, "lhr")
    assert plan.steps == ("Take app-lhr-1 out of the edges' reach",
                          "Take app-lhr-2 out of the edges' reach")  # fmt: skip


def test_a_stop_cordons_and_drains_before_it_ends_anything() -> None:
    plan = plan_duty(WELL, Act.STOP, "lhr")
    acts = [[(task.act.value, task.of.role) for task in stage] for stage in plan.stages]
    assert acts == [
        [("cordon", "app")] * 2, [("drain", "app")] * 2, [("stop", "app")] * 2,
        [("cordon", "cache")], [("stop", "cache")],
        [("cordon", "database")], [("stop", "database")],
    ]  # fmt: skip


def test_a_start_undoes_it_in_the_opposite_order() -> None:
    gone = changed(app_lhr_1="both", app_lhr_2="both", database_lhr="both", cache_lhr="both")
    roles = [stage[0].of.role for stage in plan_duty(gone, Act.START, "lhr").stages]
    assert roles == ["database", "database", "cache", "cache", "app", "app"]
    assert plan_duty(WELL, Act.START, "lhr").stages == ()


def test_a_region_that_stands_by_starts_without_the_machines_that_users_reach() -> None:
    gone = changed(app_lhr_1="both", database_lhr="both")
    plan = plan_duty(replace(gone, passive="stopped"), Act.START, "lhr")
    assert {task.of.role for stage in plan.stages for task in stage} == {"database"}


@pytest.mark.parametrize(
    ("act", "target", "said"),
    [
        (Act.STOP, "iad", "iad holds the primary"),
        (Act.STOP, "database-iad", "iad holds the primary"),
        (Act.STOP, "id-database-iad", "iad holds the primary"),
    ],
)
def test_what_would_cost_the_service_is_refused_without_force(
    act: Act, target: str, said: str
) -> None:
    with pytest.raises(RefusedError, match=said):
        plan_duty(WELL, act, target)
    assert said in plan_duty(WELL, act, target, force=True).warnings[0]


def test_the_last_machines_that_serve_are_not_cordoned() -> None:
    with pytest.raises(RefusedError, match="Nothing would serve users"):
        plan_duty(changed(app_iad_1="cordoned"), Act.CORDON, "lhr")
    assert plan_duty(WELL, Act.CORDON, "lhr").warnings == ()


def test_a_stop_that_costs_etcd_its_majority_is_refused() -> None:
    silent = replace(PRIMARY, voices={"iad": True, "lhr": True, "yyz": False})
    with pytest.raises(RefusedError, match="only iad is left"):
        plan_duty(replace(WELL, databases=(silent, STANDBY)), Act.STOP, "lhr")


def test_an_unknown_target_names_the_regions() -> None:
    with pytest.raises(MisuseError, match="no machine nrt") as refused:
        plan_duty(WELL, Act.DRAIN, "nrt")
    assert "iad, lhr, yyz" in refused.value.suggestion


def test_connections_of_the_app_are_counted_and_no_others(tmp_path: Path) -> None:
    head = "  sl  local_address rem_address   st tx_queue rx_queue\n"
    here, there = "0100007F", "0200007F"
    rows = [(here, "1F90", "01"), (here, "1F90", "0A"), (there, "1F90", "01"), (here, "1F91", "01")]
    lines = [f"0: {ip}:{port} 00000000:0000 {state} 0:0 0:0\n" for ip, port, state in rows]
    (tmp_path / "tcp").write_text(head + "".join(lines))
    mapped = "0000000000000000FFFF00000100007F"
    (tmp_path / "tcp6").write_text(f"{head}0: {mapped}:1F90 {'0' * 32}:0000 01 0:0 0:0\n")
    environ = {"FLY_PRIVATE_IP": "127.0.0.1", "PORT": "8080"}
    assert connections(environ, tmp_path) == {"connections": 2}
