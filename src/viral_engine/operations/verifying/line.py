"""What a verification says: one line for each thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from viral_engine.operations.drills.verdict import Ruling

__all__ = ["Line", "Ruling"]


@dataclass(frozen=True, slots=True)
class Line:
    """One check in one place: what was wanted, what was seen, and what follows.

    ``answered_by`` is a region, ``route`` the runtime's decision, ``latency_ms`` what a user of
    ``region`` waited; each is None where there was no request.
    """

    check: str
    region: str
    ruling: Ruling
    seen: str
    wanted: str
    answered_by: str | None = None
    route: str | None = None
    latency_ms: float | None = None

    def facts(self) -> dict[str, Any]:
        """The line, for programs."""
        return {
            "check": self.check, "region": self.region or None, "ruling": self.ruling.value,
            "seen": self.seen, "wanted": self.wanted, "answered_by": self.answered_by,
            "route": self.route, "latency_ms": self.latency_ms,
        }  # fmt: skip
