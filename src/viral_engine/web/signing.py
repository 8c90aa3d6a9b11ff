from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta

from viral_engine.clock import SYSTEM_CLOCK, Clock

__all__ = ["Replay", "ReplaySigner"]

_FORM = "2"

FRESH_FOR = timedelta(days=1)
"""How far two machines' clocks may be apart and still count each other's replays."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Where a request was sent by one of our own machines, and the reason of its route."""

    region: str
    reason: str


class ReplaySigner:
    """Signs the ``state`` of a replay, so that only our own machines can say "this is one".

    All machines of an app share the secret; what ``previous`` signed counts too, so that the secret
    can be changed while machines with either run. Without one a machine signs with a secret of its own:
    it still replays, but others take its replays for ordinary requests, and only the proxy's limit
    of 10 hops ends a loop.
    """

    def __init__(
        self, secret: str | None, previous: str | None = None, *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._keys = [(secret or secrets.token_hex(32)).encode()]
        if previous:
            self._keys.append(previous.encode())
        self._clock = clock

    def sign(self, region: str, reason: str) -> str:
        """Return a state that names where a request is sent, why and when; safe in a header."""
        claim = f"{_FORM}.{region}.{reason}.{self._now()}"
        return f"{claim}.{_mac(self._keys[0], claim)}"

    def read(self, state: str) -> Replay | None:
        """Return what a state was signed for; None if forged, or not of a day and form of ours.

        Both ways, and for as long as that, since two machines' clocks may differ: a replay that
        does not count could be sent on. An old one lets nobody do more than a new one.
        """
        claim, _, mac = state.rpartition(".")
        ours = (_mac(key, claim).encode() for key in self._keys)
        if not any(hmac.compare_digest(mac.encode(), one) for one in ours):
            return None
        form, *fields = claim.split(".")
        if form != _FORM or len(fields) != 3:  # of a version that is not ours, signed as ours are
            return None
        region, reason, signed_at = fields
        age_ms = abs(self._now() - int(signed_at))
        fresh = age_ms <= FRESH_FOR.total_seconds() * 1000
        return Replay(region, reason) if fresh else None

    def _now(self) -> int:
        return int(self._clock.now().timestamp() * 1000)


def _mac(key: bytes, claim: str) -> str:
    digest = hmac.digest(key, f"viral-replay {claim}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
