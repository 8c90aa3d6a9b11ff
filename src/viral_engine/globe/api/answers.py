"""How the API reads requests and words its refusals."""

from __future__ import annotations

import hmac
import json
import math
import signal
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from viral_engine.errors import MisuseError, PlatformError, ViralError

LARGEST_BODY = 4 * 2**20
"""Bytes; a configuration with files in it is far smaller."""


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object of a request, empty when there is none; raises PlatformError (400, 413)."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > LARGEST_BODY:
            raise PlatformError(f"the body is larger than {LARGEST_BODY} bytes", status=413)
    if not raw:
        return {}
    try:
        body = json.loads(raw)
        _refuse_what_no_process_takes(body)
    except (ValueError, RecursionError) as exc:
        raise PlatformError(f"the body is not JSON: {exc}", status=400) from exc
    if not isinstance(body, dict):
        raise PlatformError("the body must be a JSON object", status=400)
    return body


def _refuse_what_no_process_takes(value: Any) -> None:
    """Raise ValueError for text with NUL or half characters: it fits no argument and no answer."""
    match value:
        case str():
            value.encode()
            if "\0" in value:
                raise ValueError("text must not contain NUL")
        case dict():
            for key, item in value.items():
                _refuse_what_no_process_takes(key)
                _refuse_what_no_process_takes(item)
        case list():
            for item in value:
                _refuse_what_no_process_takes(item)


def number(value: object, name: str, *, default: float, least: float, most: float) -> float:
    """Read a number that a caller gave, held between two limits; raises PlatformError (400)."""
    if value in (None, ""):
        return default
    try:
        read = float(str(value))
    except ValueError:
        read = math.nan
    if math.isnan(read) or isinstance(value, bool):
        raise PlatformError(f"{name} must be a number, got {value!r}", status=400)
    return min(max(read, least), most)


def signal_of(name: str) -> signal.Signals:
    """Read the name of a signal; raises PlatformError (400)."""
    try:
        return signal.Signals[name.upper()]
    except KeyError as exc:
        raise PlatformError(f"{name or 'nothing'} is not a signal", status=400) from exc


def ok() -> Response:
    """The answer of calls that have nothing to tell."""
    return JSONResponse({"ok": True})


_STATUS_WORDS = {
    "Name has already been taken": "name_taken",
    "insufficient capacity": "insufficient_capacity",
}


async def refuse_http(_: Request, exc: Exception) -> Response:
    """Word what the router refuses, a path or a method that is not there, as any other refusal."""
    status, detail = (exc.status_code, exc.detail) if isinstance(exc, HTTPException) else (500, "")
    return JSONResponse({"error": detail.lower()}, status_code=status)


async def refuse(_: Request, exc: Exception) -> Response:
    """Word an error of ours as the platform does: ``{"error": ..., "status": ...}``."""
    if isinstance(exc, ValidationError):
        first = exc.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"error": f"invalid {place}: {first['msg']}"}, status_code=400)
    message = exc.message if isinstance(exc, ViralError) else str(exc)
    status = (exc.status if isinstance(exc, PlatformError) else 0) or (
        400 if isinstance(exc, MisuseError) else 500
    )
    body = {"error": message}
    for words, name in _STATUS_WORDS.items():
        if words in message:
            body["status"] = name
    return JSONResponse(body, status_code=status)


class TokenRequired:
    """Lets only requests through that carry the token, as ``Bearer`` or ``FlyV1``."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 or pass the call on."""
        if scope["type"] == "http" and not self._allowed(scope):
            refusal = JSONResponse({"error": "unauthorized"}, status_code=401)
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _allowed(self, scope: Scope) -> bool:
        for name, value in scope["headers"]:
            if name == b"authorization":
                kind, _, token = value.partition(b" ")
                return kind in (b"Bearer", b"FlyV1") and hmac.compare_digest(token, self._token)
        return False
