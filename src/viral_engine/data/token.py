from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from viral_engine.clock import SYSTEM_CLOCK, Clock
from viral_engine.lsn import Lsn

__all__ = ["Ignored", "SessionToken", "Span", "TokenSigner", "merge", "why_foreign"]

DEFAULT_LIFETIME = timedelta(minutes=15)
LONGEST_TEXT = 128
# More than a primary writes between two looks at it, and far less than a made-up position.
FAR_AHEAD_BYTES = 1 << 30

KNOWN_TOKENS = 4096

_FORM = "2"
# Cluster, timeline, position, issued at (ms), where the last own commit lies (twice 0: none), and
# up to where a standby was read.
_PAYLOAD = struct.Struct(">QIQQQQQ")
_MAC_BYTES = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Ignored(StrEnum):
    """Why a token counts as none; each is found out without asking a database."""

    MALFORMED = "malformed"
    UNKNOWN_KEY = "unknown-key"
    FORGED = "forged"
    EXPIRED = "expired"
    FOREIGN = "foreign-cluster"
    FAR_AHEAD = "far-ahead"


@dataclass(frozen=True, slots=True)
class Span:
    """Where in the log a commit lies: behind ``start``, and not behind ``end``.

    Other sessions' log is in between as well.
    """

    start: Lsn
    end: Lsn


@dataclass(frozen=True, slots=True)
class SessionToken:
    """What a client has seen: all up to ``position`` of one timeline of one database cluster.

    ``cluster`` is PostgreSQL's system identifier. Positions are comparable within one timeline.
    ``wrote`` is where the client's last commit on it lies, None for one that only read there.
    ``ahead`` is up to where it has read at a standby, which may show what the primary does not show
    yet: a commit that waits there for a standby.
    """

    cluster: int
    timeline: int
    position: Lsn
    issued_at: datetime
    wrote: Span | None = None
    ahead: Lsn = Lsn(0)  # noqa: RUF009 - it is frozen


def merge(one: SessionToken, other: SessionToken) -> SessionToken:
    """Return what a client has seen that holds both; raise ValueError for two clusters.

    A higher timeline wins, then the position. Of two timelines the older one's commit is left out,
    and what a standby showed there: what survived is asked of each token before they are merged.
    """
    if one.cluster != other.cluster:
        msg = f"tokens of two clusters cannot be merged: {one.cluster} and {other.cluster}"
        raise ValueError(msg)
    winner, loser = one, other
    if (other.timeline, other.position) > (one.timeline, one.position):
        winner, loser = other, one
    wrote, ahead = winner.wrote, winner.ahead
    if loser.timeline == winner.timeline:
        ahead = max(ahead, loser.ahead)
        if loser.wrote is not None:
            wrote = max(wrote or loser.wrote, loser.wrote, key=lambda span: (span.end, span.start))
    issued_at = max(one.issued_at, other.issued_at)
    return SessionToken(winner.cluster, winner.timeline, winner.position, issued_at, wrote, ahead)


def why_foreign(
    token: SessionToken, *, cluster: int | None, heads: Mapping[int, Lsn]
) -> Ignored | None:
    """Return why a token cannot be of this cluster, None where it can.

    ``heads`` is the furthest that any node has come, by timeline. A token may be ahead of that by
    what is written between two looks, taken as 1 GiB.
    """
    if cluster is not None and token.cluster != cluster:
        return Ignored.FOREIGN
    head = heads.get(token.timeline)
    if head is not None and token.position - head > FAR_AHEAD_BYTES:
        return Ignored.FAR_AHEAD
    return None


class TokenSigner:
    """Turns tokens into opaque signed text and back; a token of one tenant is none for another.

    Signs with ``secret`` and also reads what ``previous`` signed, so that a key can be changed
    without a client noticing. Without a secret a process signs with one of its own: other machines
    then ignore its tokens.
    """

    def __init__(
        self,
        secret: str | None,
        previous: str | None = None,
        *,
        lifetime: timedelta = DEFAULT_LIFETIME,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        current = (secret or secrets.token_hex(32)).encode()
        self._current = _key_id(current)
        self._keys = {self._current: current}
        if previous:
            self._keys.setdefault(_key_id(previous.encode()), previous.encode())
        self._known: dict[tuple[str, str], SessionToken] = {}
        self._texts: dict[tuple[SessionToken, str], str] = {}
        self.lifetime = lifetime
        self.clock = clock

    def sign(self, token: SessionToken, *, tenant: str = "") -> str:
        """Return the token as text that is safe in a header and in a cookie."""
        # Whoever reads at the same position in the same second gets the same token.
        text = self._texts.get((token, tenant))
        if text is None:
            text = self._texts[token, tenant] = self._signed(token, tenant)
            _keep_newest(self._texts)
            self._remember(text, token, tenant)
        return text

    def _signed(self, token: SessionToken, tenant: str) -> str:
        payload = _PAYLOAD.pack(
            token.cluster,
            token.timeline,
            token.position.position,
            (token.issued_at - _EPOCH) // _MILLISECOND,
            token.wrote.start.position if token.wrote else 0,
            token.wrote.end.position if token.wrote else 0,
            token.ahead.position,
        )
        body = _encode(payload + self._mac(self._current, payload, tenant))
        return f"{_FORM}.{self._current}.{body}"

    def read(self, text: str, *, tenant: str = "") -> SessionToken | Ignored:
        """Return the token that ``text`` is, or why it is none.

        A token is expired when it was issued more than its lifetime from now, both ways, since two
        machines' clocks may differ.
        """
        token = self._known.get((text, tenant)) or self._verified(text, tenant)
        if isinstance(token, Ignored):
            return token
        if abs(self.clock.now() - token.issued_at) > self.lifetime:
            return Ignored.EXPIRED
        self._remember(text, token, tenant)
        return token

    def _remember(self, text: str, token: SessionToken, tenant: str) -> None:
        # Most of what comes was given out by this process a moment ago, and is known to be whole.
        self._known[text, tenant] = token
        _keep_newest(self._known)

    def _verified(self, text: str, tenant: str) -> SessionToken | Ignored:
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
        if not hmac.compare_digest(mac, self._mac(key, payload, tenant)):
            return Ignored.FORGED
        cluster, timeline, position, issued_ms, start, end, ahead = _PAYLOAD.unpack(payload)
        return SessionToken(
            cluster=cluster,
            timeline=timeline,
            position=Lsn(position),
            issued_at=_EPOCH + issued_ms * _MILLISECOND,
            wrote=Span(Lsn(start), Lsn(end)) if end else None,
            ahead=Lsn(ahead),
        )

    def _mac(self, key: str, payload: bytes, tenant: str) -> bytes:
        # The tenant's length keeps it apart from what follows.
        owner = tenant.encode()
        claim = b"viral-session %b %d %b %b" % (key.encode(), len(owner), owner, payload)
        return hmac.digest(self._keys[key], claim, hashlib.sha256)[:_MAC_BYTES]


def _keep_newest(kept: dict[Any, Any]) -> None:
    if len(kept) > KNOWN_TOKENS:
        del kept[next(iter(kept))]


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
