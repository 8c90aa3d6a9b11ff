from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from viral_engine.cluster import ClusterView
from viral_engine.data import Ignored, Session, SessionToken, TokenSigner
from viral_engine.data.token import merge, why_foreign
from viral_engine.web.headers import SESSION, WROTE, Incoming

__all__ = ["OpenedSession", "SessionTokens"]

IGNORED = b"viral-session-ignored"
LOST = b"viral-session-lost"
# A client that joins the tokens of several answers sends them all; more than this is no client.
MOST_TOKENS = 8


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """The session of one request, the one token that its client sent, and what of that was ignored."""

    session: Session
    sent: SessionToken | None
    ignored: Sequence[Ignored]
    tenant: str
    incoming: Incoming
    scheme: str
    lifetime: timedelta

    @property
    def cookie_flags(self) -> bytes | None:
        """What a cookie of this client says; None for one that sends the header: it needs none."""
        if self.incoming.has_session_header:
            return None
        secure = b"" if _is_plain_loopback(self.incoming, self.scheme) else b"; Secure"
        age = self.lifetime.total_seconds()
        return b"; Path=/; Max-Age=%d; HttpOnly; SameSite=Lax%b" % (age, secure)


class SessionTokens:
    """Reads ``viral-session`` of a request, header and cookie, and writes it into the answer.

    Several tokens are merged by the furthest position. What cannot be used counts as absent, and
    ``viral-session-ignored`` says why; no database is asked for that. A second cookie keeps the
    token of the last write, so that an answer that overtakes another does not undo it.
    """

    def __init__(self, signer: TokenSigner) -> None:
        self._signer = signer

    def open(
        self, incoming: Incoming, view: ClusterView, *, scheme: str, tenant: str = ""
    ) -> OpenedSession:
        """Return the session that a request belongs to; one without a usable token is new."""
        session = Session(clock=self._signer.clock)
        sent: SessionToken | None = None
        ignored: list[Ignored] = []
        for text in incoming.tokens[:MOST_TOKENS]:
            token = self._signer.read(text, tenant=tenant)
            if isinstance(token, SessionToken):
                cluster = view.cluster if sent is None else sent.cluster
                token = why_foreign(token, cluster=cluster, heads=view.heads) or token
            if isinstance(token, Ignored):
                ignored.append(token)
                continue
            sent = token if sent is None else merge(sent, token)
            session.join(token, view)
        if len(incoming.tokens) > 1:
            sent = None  # what they say together no one of them does: it is said in the answer
        return OpenedSession(
            session, sent, ignored, tenant, incoming, scheme, self._signer.lifetime
        )

    def headers(self, opened: OpenedSession) -> list[tuple[bytes, bytes]]:
        """Return what an answer says of the session: nothing where no database was asked."""
        session = opened.session
        headers: list[tuple[bytes, bytes]] = []
        if opened.ignored:
            headers.append((IGNORED, ", ".join(dict.fromkeys(opened.ignored)).encode()))
        if session.lost:
            headers.append((LOST, session.lost.encode()))
        if session.token is None or session.token == opened.sent:
            return headers
        text = self._signer.sign(session.token, tenant=opened.tenant).encode()
        headers.append((SESSION, text))
        flags = opened.cookie_flags
        if flags is not None:
            headers.append((b"set-cookie", b"%b=%b%b" % (SESSION, text, flags)))
            if session.wrote or session.lost:
                headers.append((b"set-cookie", b"%b=%b%b" % (WROTE, text, flags)))
        return headers


def _is_plain_loopback(incoming: Incoming, scheme: str) -> bool:
    """Tell whether the user came without TLS to a loopback address: a browser's own machine."""
    if (incoming.proto or scheme) not in {"http", "ws"}:
        return False
    host = incoming.host
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
