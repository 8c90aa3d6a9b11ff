"""Whether a version may go on, over counts of what was answered: pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from viral_engine.observe.requests import RequestFigures

BY_CHANCE = 0.001
"""What a good version would show less often than this is not taken for one."""

FEWEST_FAILURES = 3
"""Fewer prove nothing, however few requests there were."""

SLOWER, SLACK_MS = 1.5, 50.0
"""A p95 above the old version's times the first plus the second is slower; a new process is cold."""


class Verdict(StrEnum):
    """What follows from a bake."""

    GO = "go"
    BACK = "roll back"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Objective:
    """What a wave must keep to: a share of failed answers (0.01), and a p95 in ms or none."""

    max_error_rate: float = 0.01
    max_p95_ms: float | None = 500.0

    @property
    def enough(self) -> int:
        """So many requests tell whether the share is kept."""
        return math.ceil(1 / self.max_error_rate)


@dataclass(frozen=True, slots=True)
class Before:
    """What the old version answered on the same machines, since each had started."""

    answered: int = 0
    failed: int = 0
    p95_ms: float | None = None

    @classmethod
    def of(cls, figures: RequestFigures) -> Before:
        """Return what is kept of figures."""
        return cls(figures.answered, figures.failed, figures.quantile_ms(0.95))

    def __add__(self, other: Before) -> Before:
        """Return both together, with the p95 of the slower."""
        slowest = [one for one in (self.p95_ms, other.p95_ms) if one is not None]
        return Before(self.answered + other.answered, self.failed + other.failed,
                      max(slowest, default=None))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ruling:
    """A verdict and the sentence that says why."""

    verdict: Verdict
    reason: str

    def facts(self) -> dict[str, Any]:
        """The ruling for programs."""
        return {"verdict": self.verdict.value, "reason": self.reason}


def judge(
    new: RequestFigures,
    old: Before,
    objective: Objective,
    *,
    over: bool,
    quiet_is_well: bool = False,
) -> Ruling | None:
    """Rule about a version by what its machines answered, and the old one's before.

    Before the bake is ``over`` it is rolled back or None: the bake goes on. After it, too few
    requests are unknown, or go where ``quiet_is_well``.
    """
    for reason in _proven(new, objective):
        return Ruling(Verdict.BACK, reason)
    if not over:
        return None
    if new.answered < objective.enough:
        said = f"{_requests(new)} are too few to judge by: {objective.enough} are needed"
        return Ruling(Verdict.GO if quiet_is_well else Verdict.UNKNOWN, said)
    for reason in _broken(new, old, objective):
        return Ruling(Verdict.BACK, reason)
    return Ruling(Verdict.GO, _told(new))


def _proven(new: RequestFigures, objective: Objective) -> Iterator[str]:
    """What no chance explains, however short the bake was."""
    expected = new.answered * objective.max_error_rate
    if new.failed >= FEWEST_FAILURES and chance(new.failed, expected) < BY_CHANCE:
        yield f"{_failed(new)}, more than {objective.max_error_rate:.3g} of all"


def _broken(new: RequestFigures, old: Before, objective: Objective) -> Iterator[str]:
    """What speaks against a version once there are enough requests."""
    p95 = new.quantile_ms(0.95) or 0.0
    if new.error_rate > objective.max_error_rate and new.failed >= FEWEST_FAILURES:
        yield f"{_failed(new)}, more than {objective.max_error_rate:.3g} of all"
    if objective.max_p95_ms is not None and p95 > objective.max_p95_ms:
        yield f"p95 is {p95:.0f} ms, above {objective.max_p95_ms:g} ms"
    if old.answered < objective.enough:
        return
    rate = (old.failed + 1) / (old.answered + 2)
    if new.failed >= FEWEST_FAILURES and chance(new.failed, new.answered * rate) < BY_CHANCE:
        yield f"{_failed(new)}, and of the old version's {old.answered} only {old.failed}"
    if old.p95_ms is not None and p95 > old.p95_ms * SLOWER + SLACK_MS:
        yield f"p95 is {p95:.0f} ms, and was {old.p95_ms:.0f} ms"


def chance(failures: int, expected: float) -> float:
    """How likely so many failures, or more, are where ``expected`` are on average (Poisson)."""
    if expected <= 0:
        return 1.0 if failures == 0 else 0.0
    log = math.log(expected)
    fewer = sum(math.exp(k * log - expected - math.lgamma(k + 1)) for k in range(failures))
    return max(0.0, 1.0 - fewer)


def _requests(new: RequestFigures) -> str:
    return f"{new.answered} request{'' if new.answered == 1 else 's'}"


def _failed(new: RequestFigures) -> str:
    return f"{new.failed} of {_requests(new)} failed"


def _told(new: RequestFigures) -> str:
    return f"{_failed(new)}, p95 {new.quantile_ms(0.95) or 0.0:.0f} ms"
