"""The part of a plan that changes how many app machines there are, and of which size: pure."""

from __future__ import annotations

from collections.abc import Collection

from viral_engine.operations.deploy.changes import (
    UNDECLARED,
    Change,
    CordonMachine,
    CreateMachine,
    DestroyMachine,
    OfMachine,
    StopMachine,
    UpdateMachine,
)
from viral_engine.operations.deploy.plan import Plan, Stage

SIZE = "guest."


def of_scaling(plan: Plan, regions: Collection[str]) -> Plan:
    """Return what a plan does to the numbers and sizes of app machines in these regions.

    All else that is to do is left to a deploy, and so are the plan's notes.
    """
    stages = [
        Stage(stage.title, tuple(c for c in stage.changes if _scales(c, regions)), stage.until)
        for stage in plan.stages
    ]
    return Plan(tuple(stage for stage in stages if stage.changes))


def _scales(change: Change, regions: Collection[str]) -> bool:
    match change:
        case OfMachine(role="app", region=region) if region in regions:
            pass
        case _:
            return False
    match change:
        case CreateMachine():
            return True
        case UpdateMachine():
            return any(one.path.startswith(SIZE) for one in change.differences)
        case CordonMachine() | StopMachine() | DestroyMachine():
            return change.reason == UNDECLARED
    return False
