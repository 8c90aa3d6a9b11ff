"""Progress by step: for people a line each, for programs a JSON object each."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

from rich.status import Status

from viral_engine.cli.output import MARKS, console


@dataclass(slots=True)
class PrintedSteps:
    """Shows the step that runs and keeps a line of each that is done."""

    _status: Status | None = None

    def begun(self, step: str) -> None:
        """Show what is being done."""
        self._stop()
        self._status = console().status(f"{step}…", spinner="dots")
        self._status.start()

    def done(self, step: str, seconds: float) -> None:
        """Keep a line of it."""
        self._stop()
        console().print(f"{MARKS['done']} {step} [dim]{seconds:.1f} s[/]")

    def seen(self, step: str, detail: str) -> None:
        """Details are for programs."""

    def close(self) -> None:
        """Stop showing anything."""
        self._stop()

    def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


@dataclass(slots=True)
class JsonSteps:
    """Writes one JSON object a line to stdout."""

    def begun(self, step: str) -> None:
        """A step has begun."""
        self.write({"event": "begun", "step": step})

    def done(self, step: str, seconds: float) -> None:
        """A step is done."""
        self.write({"event": "done", "step": step, "seconds": round(seconds, 3)})

    def seen(self, step: str, detail: str) -> None:
        """A detail."""
        self.write({"event": "seen", "step": step, "detail": detail})

    def write(self, event: dict[str, object]) -> None:
        """Write any event."""
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Nothing is open."""


Steps = PrintedSteps | JsonSteps


def steps_for(*, as_json: bool) -> Steps:
    """The kind of progress that was asked for."""
    return JsonSteps() if as_json else PrintedSteps()
