"""Asks like a user whether a deployment serves: through its edges, one machine after another."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import httpx

from viral_engine.clock import NotYet, wait_until

SERVING_WITHIN = timedelta(seconds=45)
POLL = timedelta(milliseconds=150)

UNROUTED = (502, 503, 504)
"""What an edge answers by itself when it reaches no machine."""

Judge = Callable[[httpx.Response], bool]


async def wait_until_routed(edge: str, path: str, *, machine: str | None = None) -> None:
    """Wait until an edge reaches a machine, this one or any; it asks them itself, a moment later."""
    headers = {"fly-force-instance-id": machine} if machine else {}
    await _wait(edge, path, headers, lambda answer: answer.status_code not in UNROUTED)


async def wait_until_aware(edge: str, machine: str) -> None:
    """Wait until a machine of the task service knows the primary and reaches its own database.

    A machine is healthy before that, because its health must not hang on a database: but a
    deployment is ready only when what it promises can be had.
    """

    def aware(answer: httpx.Response) -> bool:
        if answer.status_code != httpx.codes.OK:
            return False
        told = answer.json()
        near = {node["region"] for node in told["nodes"] if node["reachable"]}
        return told["primary_region"] is not None and told["region"] in near

    await _wait(edge, "/api/regions", {"fly-force-instance-id": machine}, aware)


async def _wait(edge: str, path: str, headers: dict[str, str], serves: Judge) -> None:
    async with httpx.AsyncClient(base_url=edge, headers=headers, trust_env=False) as user:

        async def asked() -> bool | NotYet:
            try:
                answer = await user.get(path)
            except httpx.HTTPError as exc:
                return NotYet(f"{edge}: {str(exc) or type(exc).__name__}")
            return serves(answer) or NotYet(f"{edge}: {answer.status_code} {answer.text.strip()}")

        await wait_until(
            asked, timeout=SERVING_WITHIN, waiting_for="every edge to serve", interval=POLL
        )
