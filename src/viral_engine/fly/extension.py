"""What the globe adds to the platform's wire: faults, logs in one stream, status, the end.

Fly.io has none of it: a caller that needs one of these must treat NotFoundError as "cannot be
known here".
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from viral_engine.errors import PlatformError
from viral_engine.fly.client import FlyClient

PREFIX = "/globe"


class GlobeExtension:
    """The globe's part of the API, over the connection of a client."""

    def __init__(self, client: FlyClient) -> None:
        self._client = client

    async def status(self) -> dict[str, Any]:
        """Network, addresses, versions of the engines, faults in force."""
        answer: dict[str, Any] = await self._client.request("GET", f"{PREFIX}/status")
        return answer

    async def add_fault(
        self, kind: str, *, regions: tuple[str, ...] = (), machine: str = "", amount: float = 0.0
    ) -> str:
        """Put a fault in force and return its id."""
        body = {"kind": kind, "regions": list(regions), "machine": machine, "amount": amount}
        answer = await self._client.request("POST", f"{PREFIX}/faults", json=body)
        return str(answer["id"])

    async def clear_fault(self, fault: str) -> None:
        """Undo one fault."""
        await self._client.request("DELETE", f"{PREFIX}/faults/{fault}")

    async def clear_faults(self) -> int:
        """Undo every fault and return how many there were."""
        answer = await self._client.request("DELETE", f"{PREFIX}/faults")
        return int(answer["cleared"])

    @asynccontextmanager
    async def fault(
        self, kind: str, *, regions: tuple[str, ...] = (), machine: str = "", amount: float = 0.0
    ) -> AsyncIterator[str]:
        """Hold a fault for the length of a block; it is undone however the block ends."""
        fault = await self.add_fault(kind, regions=regions, machine=machine, amount=amount)
        try:
            yield fault
        finally:
            await self.clear_fault(fault)

    async def packets(self) -> list[list[Any]]:
        """Per pair of places: from, to, packets forwarded, lost, dropped by a cut."""
        answer: list[list[Any]] = await self._client.request("GET", f"{PREFIX}/packets")
        return answer

    async def logs(
        self, *, region: str | None = None, machine: str | None = None, follow: bool = False
    ) -> AsyncGenerator[dict[str, Any], None]:
        """All machines' lines in one stream, oldest first; goes on for ever with ``follow``."""
        params: dict[str, str] = {"follow": "true" if follow else "false"}
        params |= {k: v for k, v in (("region", region), ("machine", machine)) if v}
        timeout = httpx.Timeout(30.0, read=None)
        stream = self._client.http.stream("GET", f"{PREFIX}/logs", params=params, timeout=timeout)
        try:
            async with stream as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise PlatformError(
                        f"The globe answered {answer.status_code}: {answer.text}",
                        status=answer.status_code,
                    )
                async for line in answer.aiter_lines():
                    yield json.loads(line)
        except httpx.HTTPError as exc:
            raise PlatformError(
                f"The stream of lines broke: {str(exc) or type(exc).__name__}",
                suggestion="Is the globe running? See: viral status.",
            ) from exc

    async def shut_down(self) -> None:
        """Ask the globe to stop every machine and then itself; returns at once."""
        await self._client.request("POST", f"{PREFIX}/shutdown")
