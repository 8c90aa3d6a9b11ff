from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from circuitbreaker import CircuitBreaker

from viral_engine.observe import CircuitClosed, CircuitOpened, Listener

__all__ = ["Circuit", "CircuitOpenError"]

FAILURES = 3
REST = timedelta(seconds=0.5)


class CircuitOpenError(Exception):
    """It failed just now and is not asked again yet."""


class Circuit:
    """Lets nobody ask what has failed three times in a row until it has rested for 0.5 s.

    Then whoever comes asks again, and a single failure lets it rest once more. Only what is of
    ``failure`` counts; anything else that leaves the block shows that it answers. The rest is that
    short because a failover takes seconds: it is to spare the many who come at once, not to wait.
    """

    def __init__(
        self,
        name: str,
        *,
        failure: type[Exception],
        failures: int = FAILURES,
        rest: timedelta = REST,
        listener: Listener | None = None,
    ) -> None:
        self.name = name
        self._listener = listener
        self._was_open = False
        self._breaker = CircuitBreaker(
            failure_threshold=failures,
            recovery_timeout=rest.total_seconds(),
            expected_exception=failure,
            name=name,
        )

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Run the block, in which it is asked; raise CircuitOpenError instead while it rests."""
        if self._breaker.opened:
            raise CircuitOpenError(f"{self.name} failed {self._breaker.failure_count} times")
        try:
            with self._breaker:
                yield
        finally:
            self._tell()

    def _tell(self) -> None:
        is_open = self._breaker.opened
        if is_open != self._was_open:
            self._was_open = is_open
            if self._listener is not None:
                self._listener(CircuitOpened(self.name) if is_open else CircuitClosed(self.name))
