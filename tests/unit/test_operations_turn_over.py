"""Where one region serves, the next one serves before the last one stands by."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.test_operations_fail_over import WELL

from viral_engine.operations.duty import Act
from viral_engine.operations.fail_over import plan_failover
from viral_engine.operations.formation import Attendance, Formation
from viral_engine.operations.turn_over import plan_turn_over


def app(region: str, *, running: bool = True, cordoned: bool = False) -> Attendance:
    return Attendance(region, "shop", f"id-{region}", f"app-{region}", "app", running=running,
                      healthy=running, cordoned=cordoned)  # fmt: skip


def formation(passive: str | None) -> Formation:
    waiting = app("lhr", running=passive != "stopped", cordoned=True)
    return replace(WELL, machines=(app("iad"), waiting), passive=passive)


@pytest.mark.parametrize(
    ("passive", "activate", "stand_down"),
    [
        ("started", [Act.UNCORDON], [Act.CORDON, Act.DRAIN]),
        ("stopped", [Act.START, Act.UNCORDON], [Act.CORDON, Act.DRAIN, Act.STOP]),
        (None, [], []),
    ],
)
def test_the_standby_is_woken_first_and_the_old_region_stands_by_last(
    passive: str | None, activate: list[Act], stand_down: list[Act]
) -> None:
    turn = plan_turn_over(formation(passive), "lhr")
    assert [task.act for stage in turn.activate for task in stage] == activate
    assert [task.act for stage in turn.stand_down for task in stage] == stand_down
    assert turn.is_done is (passive is None)
    assert plan_turn_over(formation(passive), "iad").is_done


def test_a_failover_shows_the_turn_around_the_handover() -> None:
    steps = plan_failover(formation("started"), "lhr").steps
    assert steps[0] == "Let the edges reach app-lhr again"
    assert steps[1].startswith("Hand the primary over")
    assert steps[-3:-1] == ("Take app-iad out of the edges' reach",
                            "Wait until the connections of app-iad have ended")  # fmt: skip


def test_what_failed_over_by_itself_is_turned_over_by_the_same_command() -> None:
    waiting = replace(formation("started"), machines=(app("iad", cordoned=True), app("lhr")))
    plan = plan_failover(waiting, "iad")
    assert plan.handed_over
    assert plan.steps[0] == "Let the edges reach app-iad again"
