"""Who may change a machine now: leases that end by themselves."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from viral_engine.errors import LeaseHeldError, NotFoundError

OWNER = "local@tokens.fly.io"


@dataclass(frozen=True, slots=True)
class Held:
    """A lease; ``until`` by the clock of the leases, ``expires_at`` by the wall's."""

    nonce: str
    description: str
    until: float
    expires_at: int


@dataclass(eq=False, slots=True)
class Leases:
    """The leases of all machines; they end with the platform."""

    now: Callable[[], float] = time.monotonic
    _held: dict[str, Held] = field(default_factory=dict)

    def acquire(self, machine: str, nonce: str, *, ttl: float, description: str) -> Held:
        """Take a lease or, with its nonce, prolong it; raises LeaseHeldError (409)."""
        self.check(machine, nonce)
        held = self.held(machine)
        made = Held(held.nonce if held else secrets.token_hex(8), description,
                    self.now() + ttl, int(time.time() + ttl))  # fmt: skip
        self._held[machine] = made
        return made

    def release(self, machine: str, nonce: str) -> None:
        """End a lease; raises LeaseHeldError (409) for another's, NotFoundError for none."""
        self.check(machine, nonce)
        if self.held(machine) is None:
            raise NotFoundError(f"lease not found for machine {machine}", status=404)
        del self._held[machine]

    def held(self, machine: str) -> Held | None:
        """The lease of a machine that has not ended."""
        held = self._held.get(machine)
        return held if held and held.until > self.now() else None

    def check(self, machine: str, nonce: str) -> None:
        """Raise LeaseHeldError (409) unless nobody else holds the machine's lease."""
        held = self.held(machine)
        if held and not secrets.compare_digest(held.nonce.encode(), nonce.encode()):
            ends = datetime.fromtimestamp(held.expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            raise LeaseHeldError(
                f"machine ID {machine} lease currently held by {OWNER}, expires at {ends}",
                status=409,
            )


def stripped(held: Held) -> dict[str, Any]:
    """A lease as anybody may see it; its nonce is for who took it."""
    return {"expires_at": held.expires_at, "owner": OWNER, "description": held.description}
