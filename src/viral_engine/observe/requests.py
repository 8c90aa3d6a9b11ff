from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Self

__all__ = ["BOUNDS_MS", "RequestCounts", "RequestFigures"]

BOUNDS_MS = tuple(round(1.2**step, 3) for step in range(61))
"""Upper bounds of the classes that durations are counted in: 1 ms to 56 s, each a fifth longer."""


@dataclass(frozen=True, slots=True)
class RequestFigures:
    """What an app has answered since its process started, or between two looks at one.

    ``run`` names that process; ``inside`` are requests under way now. ``failed`` are answers of 500
    and above, of the ``answered``; ``classes`` count the answers by how long they took to begin.
    """

    run: str = ""
    inside: int = 0
    answered: int = 0
    failed: int = 0
    classes: tuple[int, ...] = (0,) * (len(BOUNDS_MS) + 1)

    def __add__(self, other: RequestFigures) -> RequestFigures:
        """Return the figures of both together, which are no process's own."""
        return RequestFigures(
            "", self.inside + other.inside, self.answered + other.answered,
            self.failed + other.failed,
            tuple(a + b for a, b in zip(self.classes, other.classes, strict=True)),
        )  # fmt: skip

    @property
    def error_rate(self) -> float:
        """The share of answers that are failures; 0 where there is none."""
        return self.failed / self.answered if self.answered else 0.0

    def quantile_ms(self, share: float) -> float | None:
        """Within how many milliseconds this share of answers began, at most a fifth too many.

        None where there is no answer.
        """
        if not self.answered:
            return None
        reached = bisect_left(list(accumulate(self.classes)), share * self.answered)
        return BOUNDS_MS[min(reached, len(BOUNDS_MS) - 1)]

    def facts(self) -> dict[str, Any]:
        """The figures as JSON has them; ``from_facts`` reads it."""
        return {"run": self.run, "inside": self.inside, "answered": self.answered,
                "failed": self.failed, "classes": list(self.classes)}  # fmt: skip

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Read them; raises KeyError, TypeError or ValueError where they are none."""
        classes = tuple(map(int, facts["classes"]))
        if len(classes) != len(BOUNDS_MS) + 1:
            raise ValueError(f"{len(classes)} classes of durations, not {len(BOUNDS_MS) + 1}")
        return cls(str(facts["run"]), int(facts["inside"]), int(facts["answered"]),
                   int(facts["failed"]), classes)  # fmt: skip


@dataclass(eq=False, slots=True)
class RequestCounts:
    """Counts the requests of one process, ``run``."""

    run: str
    inside: int = 0
    answered: int = 0
    failed: int = 0
    _classes: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))

    def answer(self, status: int, seconds: float) -> None:
        """Count an answer that began after so many seconds."""
        self.answered += 1
        self.failed += status >= 500
        self._classes[bisect_left(BOUNDS_MS, seconds * 1000)] += 1

    def figures(self) -> RequestFigures:
        """Return what was counted up to now."""
        return RequestFigures(
            self.run, self.inside, self.answered, self.failed, tuple(self._classes)
        )
