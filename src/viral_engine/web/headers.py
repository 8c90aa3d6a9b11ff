from __future__ import annotations

from collections.abc import Iterable

__all__ = ["REPLAY_SOURCE", "header", "replay_fields", "without_internal"]

RawHeaders = list[tuple[bytes, bytes]]

REPLAY_SOURCE = b"fly-replay-src"
# What a client may ask of us; every other viral- header is only ever written by us.
_FROM_CLIENTS = frozenset({b"viral-session", b"viral-consistency"})


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """Return the value of the only header of that name; None where it is absent or repeated."""
    values = [value for key, value in headers if key.lower() == name]
    return values[0].decode("latin-1") if len(values) == 1 else None


def without_internal(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """Return the headers without those that only our own machines may set."""
    return [(name, value) for name, value in headers if not _is_internal(name.lower())]


def replay_fields(value: str) -> dict[str, str]:
    """Return the fields of a ``fly-replay-src`` value; what is not ``key=value`` is left out."""
    pairs = (part.strip().partition("=") for part in value.split(";"))
    return {key.strip().lower(): text.strip() for key, equals, text in pairs if equals}


def _is_internal(name: bytes) -> bool:
    if name == REPLAY_SOURCE:
        return True
    return name.startswith(b"viral-") and name not in _FROM_CLIENTS
