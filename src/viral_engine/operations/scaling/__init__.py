"""How many app machines each region has: as somebody says, or as its load asks for.

``decide`` is pure: what was measured, what runs and a policy make a number and the reason for it.
``Autoscaler`` looks, decides and has it made so by a deploy that keeps to app machines. Databases,
witness and caches are never touched here.
"""

from viral_engine.operations.scaling.decide import Decision, Limits, Policy, decide
from viral_engine.operations.scaling.load import Reading, Sample

__all__ = ["Decision", "Limits", "Policy", "Reading", "Sample", "decide"]
