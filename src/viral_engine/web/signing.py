from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from datetime import timedelta

from viral_engine.clock import SYSTEM_CLOCK, Clock

__all__ = ["ReplaySigner"]

FRESH_FOR = timedelta(seconds=60)


class ReplaySigner:
    """Signs the ``state`` of a replay, so that only our own machines can say "this is one".

    All machines of an app share the secret. Without one a machine signs with a secret of its own:
    it still replays, but others take its replays for ordinary requests, and only the proxy's limit
    of 10 hops ends a loop.
    """

    def __init__(self, secret: str | None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._key = (secret or secrets.token_hex(32)).encode()
        self._clock = clock

    def sign(self, region: str) -> str:
        """Return a state that names the region a request is sent to and when; safe in a header."""
        claim = f"1.{region}.{self._now()}"
        return f"{claim}.{self._mac(claim)}"

    def region_of(self, state: str) -> str | None:
        """Return the region that a state was signed for; None if forged or not within 60 s of now.

        Both ways, since two machines' clocks may differ.
        """
        claim, _, mac = state.rpartition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(claim).encode()):
            return None
        _, region, signed_at = claim.split(".")
        age_ms = abs(self._now() - int(signed_at))
        return region if age_ms <= FRESH_FOR.total_seconds() * 1000 else None

    def _now(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    def _mac(self, claim: str) -> str:
        digest = hmac.digest(self._key, f"viral-replay {claim}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
