"""Refusals made on purpose: calls of the API answered with an error, or whose answer is lost."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from viral_engine.errors import PlatformError
from viral_engine.globe.api.answers import body_of, number, ok

PREFIX = "/v1"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which calls are answered how: ``*`` in the path is any one part, ``status`` 0 loses the answer.

    A call whose answer is lost was carried out; any other was not. The first ``skip`` that fit
    pass, ``times`` are refused.
    """

    method: str
    path: str
    status: int
    body: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    skip: int = 0
    times: int = 1

    def fits(self, method: str, path: str) -> bool:
        """Whether a call is one of those."""
        ours, theirs = self.path.split("/"), path.removeprefix(PREFIX).split("/")
        return (
            self.method in ("*", method)
            and len(ours) == len(theirs)
            and all(one in ("*", other) for one, other in zip(ours, theirs, strict=True))
        )


class Refusals:
    """The refusals in force; they stand between the real server and the real platform."""

    def __init__(self) -> None:
        self._inforce: list[Refusal] = []

    def routes(self) -> list[Route]:
        """The paths below ``/v1/globe``."""
        at = "/v1/globe/refusals"
        return [Route(at, self.add, methods=["POST"]), Route(at, self.clear, methods=["DELETE"])]

    async def add(self, request: Request) -> Response:
        """Put a refusal in force."""
        body = await body_of(request)
        status = int(number(body.get("status"), "status", default=0, least=0, most=599))
        if 0 < status < 400:
            raise PlatformError("status must be one of an error, or 0", status=400)
        refusal = Refusal(
            method=str(body.get("method") or "*"), path=str(body.get("path") or ""), status=status,
            body=_texts(body.get("body")), headers=_texts(body.get("headers")),
            skip=int(number(body.get("skip"), "skip", default=0, least=0, most=1e6)),
            times=int(number(body.get("times"), "times", default=1, least=1, most=1e6)),
        )  # fmt: skip
        self._inforce.append(refusal)
        return JSONResponse({"inforce": len(self._inforce)}, status_code=201)

    async def clear(self, request: Request) -> Response:  # noqa: ARG002 - the shape of a call
        """End all refusals."""
        self._inforce.clear()
        return ok()

    def take(self, method: str, path: str) -> Refusal | None:
        """The refusal of this call, which is counted; None where it goes through."""
        for number_, refusal in enumerate(self._inforce):
            if not refusal.fits(method, path):
                continue
            if refusal.skip:
                self._inforce[number_] = replace(refusal, skip=refusal.skip - 1)
                continue
            self._inforce[number_] = replace(refusal, times=refusal.times - 1)
            if refusal.times == 1:
                del self._inforce[number_]
            return refusal
        return None


class Refusing:
    """The middleware that carries them out."""

    def __init__(self, app: ASGIApp, refusals: Refusals) -> None:
        self._app = app
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on, refuse it, or carry it out and break the connection."""
        refusal = None
        if scope["type"] == "http":
            refusal = self._refusals.take(scope["method"], scope["path"])
        if refusal is None:
            await self._app(scope, receive, send)
        elif refusal.status:
            body: dict[str, Any] = refusal.body or {
                "error": f"refused on purpose: {refusal.status}"
            }
            answer = JSONResponse(body, status_code=refusal.status, headers=refusal.headers)
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, _nobody)
            # The server closes the connection of an answer that ends before its stated length.
            start: Message = {"type": "http.response.start", "status": 200,
                              "headers": [(b"content-length", b"1")]}  # fmt: skip
            await send(start)


async def _nobody(message: Message) -> None:
    """Hear an answer that nobody gets."""


def _texts(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise PlatformError("body and headers must be objects of text", status=400)
    return value
