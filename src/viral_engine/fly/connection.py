"""One connection to a platform: calls, errors in our words, repetition where it is safe, leases."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import httpx

from viral_engine.errors import LostAnswerError, PlatformError
from viral_engine.fly.pace import Pace, Retries
from viral_engine.fly.refusals import refusal_of, wished_delay

ANSWER_TIMEOUT = 30.0
NONCE = "fly-machine-lease-nonce"


class Connection:
    """Speaks to the platform at ``base_url`` (with or without ``/v1``); close it after use.

    ``nonces`` are the leases that are held, by machine: each call about such a machine carries its
    own. ``pace`` is kept to where it is given.
    """

    def __init__(
        self, base_url: str, token: str, *, pace: Pace | None = None, retries: Retries | None = None
    ) -> None:
        root = base_url.rstrip("/").removesuffix("/v1")
        self.http = httpx.AsyncClient(
            base_url=f"{root}/v1",
            headers={"authorization": f"Bearer {token}"},
            timeout=ANSWER_TIMEOUT,
            trust_env=False,
        )
        self.nonces: dict[str, str] = {}
        self._pace = pace
        self._retries = retries or Retries()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.http.aclose()

    async def request(
        self, method: str, path: str, *, timeout: float = ANSWER_TIMEOUT, **more: Any
    ) -> Any:
        """Send one request and return its JSON; raises PlatformError or its kind.

        A call that was put off (429) is made again, and so is a read that failed; a change whose
        answer never came raises LostAnswerError, since it may have happened.
        """
        attempt = 1
        while True:
            last = attempt >= self._retries.attempts
            try:
                answer = await self._send(method, path, timeout=timeout, **more)
            except LostAnswerError as lost:
                if last or method != "GET" or isinstance(lost.__cause__, httpx.TimeoutException):
                    raise
                wish = None
            else:
                if answer.is_success:
                    return _decoded(answer)
                put_off = answer.status_code == 429
                if last or not (put_off or (method == "GET" and answer.status_code >= 500)):
                    raise refusal_of(answer)
                wish = wished_delay(answer) or (1.0 if put_off else None)
            await self._retries.sleep(self._retries.delay(attempt, wish))
            attempt += 1

    async def _send(self, method: str, path: str, *, timeout: float, **more: Any) -> httpx.Response:
        if self._pace is not None:
            await self._pace.turn(method, path)
        nonce = self.nonces.get(_machine_of(path))
        headers = {NONCE: nonce} if nonce else None
        try:
            return await self.http.request(method, path, timeout=timeout, headers=headers, **more)
        except httpx.HTTPError as exc:
            raise LostAnswerError(
                f"The platform at {self.http.base_url} did not answer: {str(exc) or type(exc).__name__}",
                suggestion="Is it running? See: viral status.",
            ) from exc


def _machine_of(path: str) -> str:
    """The machine that a path is about, empty for none."""
    parts = path.split("/")
    return parts[4] if len(parts) > 4 and parts[3] == "machines" else ""


def _decoded(answer: httpx.Response) -> Any:
    try:
        return answer.json() if answer.content else None
    except ValueError as exc:
        raise PlatformError(
            f"The platform at {answer.url} answered something that is not JSON.",
            status=answer.status_code,
        ) from exc
