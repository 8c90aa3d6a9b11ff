from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from viral_engine.errors import (
    DatabaseError,
    NotInstalledError,
    OneRegionError,
    UnknownOutcomeError,
)
from viral_engine.web.asgi import Message, Scope, Send

__all__ = ["PROBLEM_TYPE", "Problem", "database_problem", "problem_body", "send_problem"]

PROBLEM_TYPE = "application/problem+json"
_SOON = (("retry-after", "1"),)


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that says what went wrong."""

    status: int
    code: str
    detail: str
    headers: tuple[tuple[str, str], ...] = _SOON


def database_problem(error: DatabaseError) -> Problem:
    """Return what a client is told of an error of reading or writing."""
    said = f"{error} {error.suggestion}".strip()
    if isinstance(error, UnknownOutcomeError):
        # No retry-after: repeated without a key it could be done twice.
        return Problem(504, "unknown-outcome", said, ())
    if isinstance(error, OneRegionError):
        return Problem(503, "one-region", said)
    if isinstance(error, NotInstalledError):
        return Problem(503, "not-installed", said)
    return Problem(503, "database-unavailable", said)


def problem_body(
    status: int, code: str, detail: str, extra: Mapping[str, object] | None = None
) -> dict[str, object]:
    """Return the members of an RFC 9457 problem; ``code`` is one stable word with hyphens."""
    return {
        "type": f"urn:viral-engine:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **(extra or {}),
    }


async def send_problem(scope: Scope, send: Send, problem: Problem) -> None:
    """Answer with a problem; a WebSocket that was not accepted is denied with the same answer.

    A server without the denial extension can only close the socket (403, without our headers).
    """
    prefix = scope["type"]
    if prefix == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1013, "reason": problem.code})
            return
        prefix = "websocket.http"
    body = json.dumps(problem_body(problem.status, problem.code, problem.detail)).encode()
    raw = [(b"content-type", PROBLEM_TYPE.encode()), (b"content-length", b"%d" % len(body))]
    raw += [(name.encode(), value.encode()) for name, value in problem.headers]
    start: Message = {"type": f"{prefix}.response.start", "status": problem.status, "headers": raw}
    await send(start)
    await send({"type": f"{prefix}.response.body", "body": body})
