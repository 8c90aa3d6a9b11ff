from __future__ import annotations

from dataclasses import dataclass, field

from viral_engine.web.asgi import RawHeaders

__all__ = ["IDEMPOTENCY_KEY", "SESSION", "WROTE", "Incoming", "replay_fields", "sorted_out"]

SESSION = b"viral-session"
WROTE = b"viral-session-wrote"
IDEMPOTENCY_KEY = b"idempotency-key"

_CONSISTENCY = b"viral-consistency"
_REPLAY_SOURCE = b"fly-replay-src"
_CAME_BACK = b"fly-replay-failed"
_COOKIES = frozenset({SESSION.decode(), WROTE.decode()})
_FROM_CLIENTS = frozenset({SESSION, _CONSISTENCY})
_FOR_US = _FROM_CLIENTS | {
    _REPLAY_SOURCE,
    _CAME_BACK,
    IDEMPOTENCY_KEY,
    b"cookie",
    b"host",
    b"x-forwarded-proto",
}


@dataclass(slots=True)
class Incoming:
    """A request's headers sorted out: ``passed_on`` is what the app gets, the rest is for us.

    Only our own machines may set ``fly-replay-src`` and any ``viral-`` header but two, so that an
    app never sees those of a client. ``came_back`` says that a replay found nobody, by the proxy's
    word; a client that says so itself only gets its request served here. Where a header that must be one is repeated, its value here
    is the empty text: no value that counts.
    """

    passed_on: RawHeaders
    replay_source: str | None = None
    came_back: bool = False
    consistency: str | None = None
    idempotency_key: str | None = None
    has_session_header: bool = False
    tokens: list[str] = field(default_factory=list)
    host: str = ""
    proto: str = ""


def sorted_out(headers: RawHeaders) -> Incoming:
    """Return the headers of a request sorted out; names are in small letters, as ASGI has them."""
    found = Incoming(headers)
    internal = False
    for name, value in headers:
        if name in _FOR_US:
            _take(found, name, value.decode("latin-1"))
        elif name.startswith(b"viral-"):
            internal = True
    if internal or found.replay_source is not None:
        found.passed_on = [pair for pair in headers if not _is_internal(pair[0])]
    return found


def _take(found: Incoming, name: bytes, text: str) -> None:
    if name == SESSION:
        found.has_session_header = True
        found.tokens += [part for part in map(str.strip, text.split(",")) if part]
    elif name == b"cookie":
        found.tokens += _tokens_of_cookies(text)
    elif name == b"host":
        found.host = text
    elif name == b"x-forwarded-proto":
        found.proto = text
    elif name == IDEMPOTENCY_KEY:
        found.idempotency_key = _only(found.idempotency_key, text)
    elif name == _CAME_BACK:
        found.came_back = True
    elif name == _CONSISTENCY:
        found.consistency = _only(found.consistency, text)
    else:
        found.replay_source = _only(found.replay_source, text)


def replay_fields(value: str) -> dict[str, str]:
    """Return the fields of a ``fly-replay-src`` value; what is not ``key=value`` is left out."""
    pairs = (part.strip().partition("=") for part in value.split(";"))
    return {key.strip().lower(): text.strip() for key, equals, text in pairs if equals}


def _is_internal(name: bytes) -> bool:
    if name.startswith(b"viral-"):
        return name not in _FROM_CLIENTS
    return name == _REPLAY_SOURCE


def _only(before: str | None, value: str) -> str:
    return value if before is None else ""


def _tokens_of_cookies(value: str) -> list[str]:
    if "viral-session" not in value:
        return []
    pairs = (part.strip().partition("=") for part in value.split(";"))
    return [text for key, _, text in pairs if key in _COOKIES and text]
