"""What is certain of a request, from the answer that its client got, or did not get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from viral_engine.operations.drills.history import Outcome

__all__ = ["NOTHING_DONE", "Answer", "read_outcome", "write_outcome"]

PROBLEM = "urn:viral-engine:problem:"

NOTHING_DONE = frozenset(
    {
        "no-primary",
        "no-primacy",
        "one-region",
        "database-unavailable",
        "database-conflict",
        "not-migrated",
    }
)
"""Problems of a 503 that promise that nothing was changed."""

NOTHING_SENT = ("[PR01]", "[PR03]")
"""How the edge's own words begin when no machine got the request."""

REFUSED = frozenset({400, 404, 405, 409, 412, 413, 415, 422})
"""Decided by the app before its transaction, or in one that did nothing."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request; ``status`` 0 where nothing did, ``sent`` whether it left."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    sent: bool = True

    @property
    def problem(self) -> str:
        """The code of a problem of the runtime's or the service's, else nothing."""
        return str(self.body.get("type", "")).removeprefix(PROBLEM)

    @property
    def mismatched(self) -> bool:
        """Whether it refuses because what is there is not what was expected, or should not be."""
        return self.status == 412 or self.problem == "email-taken"

    @property
    def told_lost(self) -> bool:
        """Whether it says that what this client had seen was lost."""
        return "viral-session-lost" in self.headers

    @property
    def route(self) -> tuple[str, str]:
        """How it was served, and why."""
        kind, _, rest = self.headers.get("viral-route", "").partition("; reason=")
        return kind, rest.partition(";")[0]

    @property
    def revision(self) -> int | None:
        """The version of the row that it shows."""
        shown = self.body.get("version")
        return shown if isinstance(shown, int) else None


def write_outcome(answer: Answer) -> Outcome:
    """Return what is certain of a write: anything that does not promise one way is unknown."""
    if not answer.sent:
        return Outcome.FAIL
    if 200 <= answer.status < 300:
        return Outcome.OK
    if answer.status in REFUSED and answer.problem not in {"", "replay"}:
        return Outcome.FAIL
    if answer.status == 503 and answer.problem in NOTHING_DONE:
        return Outcome.FAIL
    if answer.status == 503 and answer.text.startswith(NOTHING_SENT):
        return Outcome.FAIL
    return Outcome.UNKNOWN


def read_outcome(answer: Answer) -> Outcome:
    """Return whether a read showed something; that a row is not there is something too."""
    if answer.status == 200 or (answer.status == 404 and answer.problem == "not-found"):
        return Outcome.OK
    return Outcome.FAIL if answer.status or not answer.sent else Outcome.UNKNOWN
