"""How many machines a region should have: pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from viral_engine.operations.scaling.load import Sample

__all__ = ["Decision", "Limits", "Policy", "decide"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What is declared for a region: machines at least and at most, and requests at once for each."""

    floor: int
    ceiling: int
    soft_limit: int


@dataclass(frozen=True, slots=True)
class Policy:
    """How load becomes machines; times in seconds.

    A machine should carry ``target`` of its soft limit, and ``headroom`` more run than that needs.
    Fewer are wanted only where they would carry less than the target by ``slack``, by every look of
    the last ``low_for_s``. After a change nothing is changed for ``cooldown_s``.
    """

    target: float = 0.7
    slack: float = 0.2
    headroom: int = 0
    cooldown_s: float = 60.0
    low_for_s: float = 300.0

    def needed(self, load: float, soft_limit: int, *, going_down: bool = False) -> int:
        """Return how many machines carry a load: none where there is none at all."""
        share = self.target * (1 - self.slack) if going_down else self.target
        machines = math.ceil(load / (soft_limit * share))
        return machines + self.headroom if machines else 0


@dataclass(frozen=True, slots=True)
class Decision:
    """How many machines there should be, and why."""

    target: int
    reason: str


def decide(
    history: Sequence[Sample],
    running: int,
    limits: Limits,
    policy: Policy,
    *,
    now: float,
    changed_at: float | None = None,
) -> Decision:
    """Return how many machines a region should have; ``history`` is in order, the newest last.

    More as soon as the last look asks for them, also where it saw only a part. Fewer only after a
    time in which every look saw everything. Never below the floor or above the ceiling, which
    alone are kept also during the cooldown; ``changed_at`` is when the last change was made.
    """
    if running < limits.floor:
        return Decision(limits.floor, f"{limits.floor} are declared at least")
    if running > limits.ceiling:
        return Decision(limits.ceiling, f"{limits.ceiling} are declared at most")
    if changed_at is not None and now - changed_at < policy.cooldown_s:
        return Decision(running, f"changed {now - changed_at:.0f} s ago")
    if not history:
        return Decision(running, "nothing is measured yet")
    more = _within(limits, policy.needed(history[-1].load, limits.soft_limit))
    if more > running:
        return Decision(more, _words(history[-1].load, running, limits))
    return _fewer(history, running, limits, policy, now=now)


def _fewer(
    history: Sequence[Sample], running: int, limits: Limits, policy: Policy, *, now: float
) -> Decision:
    """Return a smaller number where everything was seen, and was low, for long enough."""
    since = now - policy.low_for_s
    window = [sample for sample in history if sample.at >= since]
    if not window or not all(sample.complete for sample in window):
        return Decision(running, "not every machine told its load")
    peak = max(sample.load for sample in window)
    fewer = _within(limits, policy.needed(peak, limits.soft_limit, going_down=True))
    if fewer >= running:
        return Decision(running, _words(peak, running, limits))
    if history[0].since > since:
        return Decision(running, f"not yet watched for {policy.low_for_s:g} s")
    return Decision(fewer, f"at most {peak:.1f} at once for {policy.low_for_s:g} s")


def _within(limits: Limits, machines: int) -> int:
    return min(max(machines, limits.floor), limits.ceiling)


def _words(load: float, running: int, limits: Limits) -> str:
    if not running:
        return f"{load:.1f} at once came in there and were served elsewhere"
    share = load / (running * limits.soft_limit)
    return f"{load:.1f} at once, {share:.0%} of the soft limits"
