"""How an operation tells what it does: one line a step, to whoever listens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """Hears the steps of an operation."""

    def begun(self, step: str) -> None:
        """A step has begun."""

    def done(self, step: str, seconds: float) -> None:
        """A step is done."""

    def seen(self, step: str, detail: str) -> None:
        """Something worth showing happened within a step."""


@contextmanager
def step(progress: Progress, name: str) -> Iterator[None]:
    """Tell the beginning and the end of a block; an error leaves the step without an end."""
    started = time.monotonic()
    progress.begun(name)
    yield
    progress.done(name, time.monotonic() - started)
