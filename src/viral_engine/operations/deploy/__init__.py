"""A deployment made so: what is wanted and what is found make a plan, and the plan is carried out.

``diff`` decides, over frozen values and without asking anybody. ``Deploy`` observes, does the plan's
first stage and observes again, until there is nothing to do: so a deploy that died at any step, or
an answer that was lost, is gone on from by looking. Nothing is remembered between two runs.
"""

from viral_engine.operations.deploy.deploy import Deploy
from viral_engine.operations.deploy.diff import diff
from viral_engine.operations.deploy.found import Found, FoundApp, observe
from viral_engine.operations.deploy.plan import Plan

__all__ = ["Deploy", "Found", "FoundApp", "Plan", "diff", "observe"]
