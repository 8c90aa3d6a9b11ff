from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

from viral_engine.web.asgi import Message, Scope, Send

__all__ = ["PROBLEM_TYPE", "problem_body", "send_problem"]

PROBLEM_TYPE = "application/problem+json"


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


async def send_problem(
    scope: Scope,
    send: Send,
    *,
    status: int,
    code: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer with a problem; a WebSocket that was not accepted is denied with the same answer.

    A server without the denial extension can only close the socket (403, without our headers).
    """
    prefix = scope["type"]
    if prefix == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1013, "reason": code})
            return
        prefix = "websocket.http"
    body = json.dumps(problem_body(status, code, detail)).encode()
    raw = [(b"content-type", PROBLEM_TYPE.encode()), (b"content-length", b"%d" % len(body))]
    raw += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    start: Message = {"type": f"{prefix}.response.start", "status": status, "headers": raw}
    await send(start)
    await send({"type": f"{prefix}.response.body", "body": body})
