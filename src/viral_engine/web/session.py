from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from viral_engine.cluster import ClusterView
from viral_engine.data import Ignored, Session, SessionToken, TokenSigner
from viral_engine.data.token import merge, why_foreign
from viral_engine.web.asgi import Scope

__all__ = ["SESSION", "OpenedSession", "SessionTokens"]

SESSION = b"viral-session"
IGNORED = b"viral-session-ignored"
# A client that joins the tokens of several answers sends them all; more than this is no client.
MOST_TOKENS = 8


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """The session of one request, what its client sent, and why parts of that were ignored."""

    session: Session
    sent: SessionToken | None
    ignored: Sequence[Ignored]


class SessionTokens:
    """Reads ``viral-session`` of a request, header and cookie, and writes it into the answer.

    Several tokens are merged by the furthest position. What cannot be used counts as absent, and
    ``viral-session-ignored`` says why; no database is asked for that.
    """

    def __init__(self, signer: TokenSigner) -> None:
        self._signer = signer

    def open(self, scope: Scope, view: ClusterView) -> OpenedSession:
        """Return the session that a request belongs to; one without a usable token is new."""
        seen: SessionToken | None = None
        ignored: list[Ignored] = []
        for text in list(_texts(scope["headers"]))[:MOST_TOKENS]:
            token = self._signer.read(text)
            if isinstance(token, Ignored):
                ignored.append(token)
                continue
            cluster = view.cluster if seen is None else seen.cluster
            foreign = why_foreign(token, cluster=cluster, heads=view.heads)
            if foreign is not None:
                ignored.append(foreign)
                continue
            seen = token if seen is None else merge(seen, token)
        return OpenedSession(Session(seen, clock=self._signer.clock), seen, ignored)

    def headers(self, opened: OpenedSession, scope: Scope) -> list[tuple[bytes, bytes]]:
        """Return what an answer says of the session: nothing where no database was asked."""
        said = [(IGNORED, ", ".join(dict.fromkeys(opened.ignored)).encode())]
        headers = said if opened.ignored else []
        token = opened.session.token
        if token is None or token == opened.sent:
            return headers
        text = self._signer.sign(token).encode()
        age = int(self._signer.lifetime.total_seconds())
        cookie = b"%b=%b; Path=/; Max-Age=%d; HttpOnly; SameSite=Lax" % (SESSION, text, age)
        if not _is_plain_loopback(scope):
            cookie += b"; Secure"
        return [*headers, (SESSION, text), (b"set-cookie", cookie)]


def _texts(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[str]:
    for name, value in headers:
        if name.lower() == SESSION:
            yield from filter(None, (part.strip() for part in value.decode("latin-1").split(",")))
        elif name.lower() == b"cookie":
            for part in value.decode("latin-1").split(";"):
                key, _, text = part.strip().partition("=")
                if key == SESSION.decode() and text:
                    yield text


def _is_plain_loopback(scope: Scope) -> bool:
    """Tell whether the user came without TLS to a loopback address: a browser's own machine."""
    headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    scheme = headers.get(b"x-forwarded-proto") or scope.get("scheme") or "http"
    if scheme not in {"http", "ws"}:
        return False
    host = headers.get(b"host", "")
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
