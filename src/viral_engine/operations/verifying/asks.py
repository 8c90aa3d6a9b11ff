"""Asks as a user does, and keeps what was answered: here, or where ``python -m`` runs this.

``python -m viral_engine.operations.verifying.asks URL ASKS``: ASKS and what is printed are JSON
lists, of ``Ask`` and of ``Answer``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

__all__ = ["Answer", "Ask", "ask_all"]

ANSWERED_WITHIN_S = 20.0
OF_INTEREST = ("viral-region", "viral-route", "viral-session", "viral-session-lost", "fly-replay")
DEBUG = "flyio-debug"
"""Asked for and answered by the edge: who served, also of an app that knows nothing of us."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request; ``body`` goes as JSON where there is one."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: ``error`` where nothing did; ``body`` is None where it is no JSON object."""

    status: int = 0
    region: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    latency_ms: float = 0.0
    body: Mapping[str, Any] | None = None
    error: str = ""

    @property
    def route(self) -> str:
        """How the runtime decided, empty where there is none."""
        return self.headers.get("viral-route", "")


async def ask_all(url: str, asks: Iterable[Ask]) -> list[Answer]:
    """Ask one after the other, on a connection that is open before the first of them."""
    async with httpx.AsyncClient(
        base_url=url, timeout=ANSWERED_WITHIN_S, trust_env=False, headers={DEBUG: "doit"}
    ) as user:
        with contextlib.suppress(httpx.HTTPError):
            await user.head("/")
        return [await _ask(user, ask) for ask in asks]


async def _ask(user: httpx.AsyncClient, ask: Ask) -> Answer:
    began = time.perf_counter()
    try:
        answer = await user.request(
            ask.method, ask.path, headers=dict(ask.headers),
            **({} if ask.body is None else {"json": ask.body}),
        )  # fmt: skip
    except httpx.HTTPError as error:
        return Answer(error=str(error) or type(error).__name__)
    took = 1000 * (time.perf_counter() - began)
    kept = {name: answer.headers[name] for name in OF_INTEREST if name in answer.headers}
    region = kept.get("viral-region") or _debugged(answer.headers.get(DEBUG, ""))
    return Answer(answer.status_code, region, kept, round(took, 1), _object(answer.text))


def _debugged(text: str) -> str:
    return str((_object(text) or {}).get("sr", ""))


def _object(text: str) -> Mapping[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def main(url: str, asks: str) -> None:
    """Ask what is told, and print the answers."""
    answers = asyncio.run(ask_all(url, (Ask(**ask) for ask in json.loads(asks))))
    print(json.dumps([asdict(answer) for answer in answers]))  # noqa: T201 - whoever runs it reads this


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
