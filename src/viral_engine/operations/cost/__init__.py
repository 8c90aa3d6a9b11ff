"""What a deployment costs in a month, what a change would save, and what it really has.

This room counts what is paid for, from a deployment or from the platform, and multiplies it with
prices that are data. What nobody can know beforehand, such as traffic, is an assumption with a name.
"""

from viral_engine.operations.cost.assumptions import Assumptions
from viral_engine.operations.cost.estimate import Estimate, Line, estimate
from viral_engine.operations.cost.inventory import Inventory, declared

__all__ = ["Assumptions", "Estimate", "Inventory", "Line", "declared", "estimate"]
