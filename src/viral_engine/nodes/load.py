from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping

from viral_engine.cluster.wire import UnreachableError, call
from viral_engine.errors import UnsupportedError
from viral_engine.nodes.machine import netloc
from viral_engine.topology.here import Here

__all__ = ["LOAD_PATH", "Load", "load"]

LOAD_PATH = "/.viral/load"
"""Where an app machine tells its load, to whoever asks it without going by an edge."""

_EDGE = b"fly-region"
_REGION = re.compile(rb"[a-z]{3}")


class Level:
    """How many there are now, and the sum over time, from which a mean is made of two readings."""

    __slots__ = ("_at", "_summed", "now")

    def __init__(self, at: float) -> None:
        self.now = 0
        self._at = at
        self._summed = 0.0

    def change(self, by: int, at: float) -> None:
        """Note that from a moment on there are so many more, or fewer."""
        self._summed = self.summed(at)
        self._at = at
        self.now += by

    def summed(self, at: float) -> float:
        """Return how many there were, times the seconds for which they were."""
        return self._summed + self.now * (at - self._at)


class Load:
    """What one process serves: requests at once, all of them and by the edge that they came in by."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began = now()
        self._all = Level(self._began)
        self._edges: dict[str, Level] = {}
        self.turned_away = 0

    @property
    def inside(self) -> int:
        """How many requests are being served now."""
        return self._all.now

    def enter(self, headers: Iterable[tuple[bytes, bytes]]) -> Level | None:
        """Count a request in; what is returned has to be handed to ``leave``."""
        at = self._now()
        self._all.change(1, at)
        edge = self._edge(headers, at)
        if edge is not None:
            edge.change(1, at)
        return edge

    def leave(self, edge: Level | None) -> None:
        """Count a request out."""
        at = self._now()
        self._all.change(-1, at)
        if edge is not None:
            edge.change(-1, at)

    def shown(self) -> dict[str, object]:
        """Return the figures for JSON; sums are in request-seconds since the process began."""
        at = self._now()
        return {
            "inside": self._all.now,
            "turned_away": self.turned_away,
            "up_seconds": at - self._began,
            "busy_seconds": self._all.summed(at),
            "entered_seconds": {code: edge.summed(at) for code, edge in self._edges.items()},
        }

    def _edge(self, headers: Iterable[tuple[bytes, bytes]], at: float) -> Level | None:
        for name, value in headers:
            if name == _EDGE:
                if _REGION.fullmatch(value) is None:
                    return None
                return self._edges.setdefault(value.decode(), Level(at))
        return None


async def load(environ: Mapping[str, str]) -> dict[str, object]:
    """Return what this machine's app process serves, as ``Load`` shows it.

    Raises UnsupportedError where nobody counts that: the process is not ours, or it does not answer.
    """
    here = Here.from_environ(environ)
    # On Fly.io the process listens on every address, since its own is IPv6 and the proxy's is not.
    host = here.private_ip if "." in here.private_ip else "127.0.0.1"
    try:
        reply = await call(f"http://{netloc(host, here.port)}{LOAD_PATH}")
    except UnreachableError as error:
        raise UnsupportedError(f"The app of this machine does not answer: {error}") from error
    if reply.status != 200 or not isinstance(reply.body, dict):
        raise UnsupportedError(f"The app of this machine tells no load: {reply.status}.")
    return reply.body
