"""A new version of the app, wave by wave of regions, each judged by what its users were answered.

``plan_rollout`` and ``plan_back`` decide the steps over what was found, ``judge`` rules about a bake
over counts: both pure. ``Rollout`` carries it out, and goes back by itself where it is ruled so. What
it needs to go on after a kill stands in the machines' own metadata and nowhere else.
"""

from viral_engine.operations.rollout.judge import Before, Objective, Ruling, Verdict, judge
from viral_engine.operations.rollout.plan import (
    Fleet,
    Member,
    Options,
    RolloutPlan,
    Step,
    parse_waves,
    plan_back,
    plan_rollout,
)
from viral_engine.operations.rollout.rollout import Rollout
from viral_engine.operations.rollout.version import Mark, Strategy, Version

__all__ = [
    "Before", "Fleet", "Mark", "Member", "Objective", "Options", "Rollout", "RolloutPlan", "Ruling",
    "Step", "Strategy", "Verdict", "Version", "judge", "parse_waves", "plan_back", "plan_rollout",
]  # fmt: skip
