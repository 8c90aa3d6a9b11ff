"""What is asked of an app: a path that reads, and a write that does no harm."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from viral_engine.operations.verifying.asks import Ask
from viral_engine.topology.model import BUNDLED_APP, Deployment

__all__ = ["Probe", "probe_of"]

GAUGE = "/api/metrics/viral.verify"
"""A gauge of its own: each write takes the place of the one before, and nothing piles up."""


@dataclass(frozen=True, slots=True)
class Probe:
    """``reads`` is a path that reads; ``writes`` one that may be written to, None for no write.

    ``is_ours`` is whether the bundled service answers there, whose writes can be read back.
    """

    reads: str
    writes: str | None
    is_ours: bool

    def read(self, token: str = "") -> Ask:
        """Read what may be old, as a client that has seen what the token says."""
        return Ask("GET", self.reads, {"viral-session": token} if token else {})

    def read_strong(self) -> Ask:
        """Read what every acknowledged write has left."""
        return Ask("GET", self.reads, {"viral-consistency": "strong"})

    def write(self, value: int) -> Ask:
        """Write a value, once; raises ValueError where nothing may be written."""
        if self.writes is None:
            raise ValueError("nothing may be written")
        key = {"idempotency-key": f"viral-verify-{secrets.token_hex(8)}"}
        if self.is_ours:
            return Ask("PUT", self.writes, key, {"value": value})
        return Ask("POST", self.writes, key, {})

    def read_back(self, token: str) -> Ask:
        """Read what was written, as the client that wrote it."""
        return Ask("GET", self.writes if self.is_ours and self.writes else self.reads,
                   {"viral-session": token})  # fmt: skip


def probe_of(
    deployment: Deployment, *, reads: str | None, writes: str | None, may_write: bool
) -> Probe:
    """Return what is asked of a deployment's app; of somebody else's, writes only where told."""
    service = deployment.service
    ours = service.app == BUNDLED_APP and writes is None
    usual = "/api/tasks?limit=1" if service.app == BUNDLED_APP else service.check.path
    wanted = writes or (GAUGE if ours else None)
    return Probe(reads or usual, wanted if may_write else None, ours)
