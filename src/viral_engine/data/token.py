from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from viral_engine.clock import SYSTEM_CLOCK, Clock
from viral_engine.lsn import Lsn

__all__ = ["Ignored", "SessionToken", "TokenKind", "TokenSigner", "merge", "why_foreign"]

DEFAULT_LIFETIME = timedelta(minutes=15)
LONGEST_TEXT = 128
# More than a primary writes between two looks at it, and far less than a made-up position.
FAR_AHEAD_BYTES = 1 << 30

_FORM = "1"
# Kind, cluster, timeline, position, issued at (ms).
_PAYLOAD = struct.Struct(">BQIQQ")
_MAC_BYTES = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class TokenKind(StrEnum):
    """Whether a client read at a position or wrote there."""

    READ = "read"
    WRITE = "write"


class Ignored(StrEnum):
    """Why a token counts as none; each is found out without asking a database."""

    MALFORMED = "malformed"
    UNKNOWN_KEY = "unknown-key"
    FORGED = "forged"
    EXPIRED = "expired"
    FOREIGN = "foreign-cluster"
    FAR_AHEAD = "far-ahead"


@dataclass(frozen=True, slots=True)
class SessionToken:
    """What a client has seen: all up to ``position`` of one timeline of one database cluster.

    ``cluster`` is PostgreSQL's system identifier. Positions are comparable within one timeline.
    """

    cluster: int
    timeline: int
    position: Lsn
    issued_at: datetime
    kind: TokenKind

    @property
    def rank(self) -> tuple[int, Lsn, bool]:
        """What orders the tokens of one cluster: a higher timeline wins, then the position."""
        return (self.timeline, self.position, self.kind is TokenKind.WRITE)


def merge(one: SessionToken, other: SessionToken) -> SessionToken:
    """Return what a client has seen that holds both; raise ValueError for two clusters."""
    if one.cluster != other.cluster:
        msg = f"tokens of two clusters cannot be merged: {one.cluster} and {other.cluster}"
        raise ValueError(msg)
    winner = max(one, other, key=lambda token: token.rank)
    return replace(winner, issued_at=max(one.issued_at, other.issued_at))


def why_foreign(
    token: SessionToken, *, cluster: int | None, heads: Iterable[tuple[int, Lsn]]
) -> Ignored | None:
    """Return why a token cannot be of this cluster, None where it can; ``heads`` are all known.

    A token may be ahead of every head by what is written between two looks, taken as 1 GiB.
    """
    if cluster is not None and token.cluster != cluster:
        return Ignored.FOREIGN
    known = [lsn for timeline, lsn in heads if timeline == token.timeline]
    if known and token.position - max(known) > FAR_AHEAD_BYTES:
        return Ignored.FAR_AHEAD
    return None


class TokenSigner:
    """Turns tokens into opaque signed text and back, for one tenant.

    Signs with ``secret`` and also reads what ``previous`` signed, so that a key can be changed
    without a client noticing. Without a secret a process signs with one of its own: other machines
    then ignore its tokens.
    """

    def __init__(
        self,
        secret: str | None,
        previous: str | None = None,
        *,
        tenant: str = "",
        lifetime: timedelta = DEFAULT_LIFETIME,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        current = (secret or secrets.token_hex(32)).encode()
        self._current = _key_id(current)
        self._keys = {self._current: current}
        if previous:
            self._keys.setdefault(_key_id(previous.encode()), previous.encode())
        self._tenant = tenant.encode()
        self.lifetime = lifetime
        self.clock = clock

    def sign(self, token: SessionToken) -> str:
        """Return the token as text that is safe in a header and in a cookie."""
        payload = _PAYLOAD.pack(
            token.kind is TokenKind.WRITE,
            token.cluster,
            token.timeline,
            token.position.position,
            (token.issued_at - _EPOCH) // _MILLISECOND,
        )
        body = _encode(payload + self._mac(self._current, payload))
        return f"{_FORM}.{self._current}.{body}"

    def read(self, text: str) -> SessionToken | Ignored:
        """Return the token that ``text`` is, or why it is none.

        A token is expired when it was issued more than its lifetime from now, both ways, since two
        machines' clocks may differ.
        """
        form, _, rest = text.partition(".")
        key, _, body = rest.partition(".")
        if len(text) > LONGEST_TEXT or form != _FORM:
            return Ignored.MALFORMED
        if key not in self._keys:
            return Ignored.UNKNOWN_KEY
        raw = _decode(body)
        if raw is None or len(raw) != _PAYLOAD.size + _MAC_BYTES:
            return Ignored.MALFORMED
        payload, mac = raw[: _PAYLOAD.size], raw[_PAYLOAD.size :]
        if not hmac.compare_digest(mac, self._mac(key, payload)):
            return Ignored.FORGED
        kind, cluster, timeline, position, issued_ms = _PAYLOAD.unpack(payload)
        issued_at = _EPOCH + issued_ms * _MILLISECOND
        if abs(self.clock.now() - issued_at) > self.lifetime:
            return Ignored.EXPIRED
        return SessionToken(
            cluster=cluster,
            timeline=timeline,
            position=Lsn(position),
            issued_at=issued_at,
            kind=TokenKind.WRITE if kind else TokenKind.READ,
        )

    def _mac(self, key: str, payload: bytes) -> bytes:
        # The tenant's length keeps it apart from what follows.
        claim = b"viral-session %b %d %b %b" % (
            key.encode(),
            len(self._tenant),
            self._tenant,
            payload,
        )
        return hmac.digest(self._keys[key], claim, hashlib.sha256)[:_MAC_BYTES]


def _key_id(secret: bytes) -> str:
    return hmac.digest(secret, b"viral-session key id", hashlib.sha256)[:4].hex()


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes | None:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    # One token has one spelling.
    return raw if _encode(raw) == text else None
