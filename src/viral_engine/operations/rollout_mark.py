"""What a rollout leaves in a machine's metadata until its wave is passed, as far as others need it: pure."""

from __future__ import annotations

import json

from viral_engine.fly.model import Machine

__all__ = ["MARK", "is_in_rollout", "served_before_rollout"]

MARK = "viral_rollout"
"""Its name in the metadata."""


def is_in_rollout(machine: Machine) -> bool:
    """Tell whether a machine is a part of a rollout that has not ended."""
    return MARK in machine.config.metadata


def served_before_rollout(machine: Machine) -> bool:
    """Tell whether users reached a machine before a rollout that it is a part of took it away."""
    try:
        said = json.loads(machine.config.metadata.get(MARK, ""))
    except ValueError:
        return False
    return isinstance(said, dict) and said.get("served") is True and said.get("guest") is not True
