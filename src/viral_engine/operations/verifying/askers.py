"""How the users of a region are reached."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Protocol

from viral_engine.errors import PlatformError
from viral_engine.fly.client import FlyClient
from viral_engine.operations.verifying.asks import Answer, Ask, ask_all

__all__ = ["Asker", "Doors", "Inside"]

ASKED_WITHIN = timedelta(seconds=60)


class Asker(Protocol):
    """Asks as a user of a region."""

    async def ask(self, region: str, asks: Sequence[Ask]) -> list[Answer]:
        """Ask one after the other; an answer with an ``error`` for what was not answered."""


@dataclass(frozen=True, slots=True)
class Doors:
    """Of a globe: the address by which this machine enters a region as one of its users."""

    edges: Mapping[str, str]

    async def ask(self, region: str, asks: Sequence[Ask]) -> list[Answer]:
        """As in Asker."""
        return await ask_all(self.edges[region], asks)


@dataclass(frozen=True, slots=True)
class Inside:
    """Of Fly.io: a machine in the region goes out and comes in by the edge that is nearest to it.

    ``machines`` are ids by region, of the app ``app``; ``url`` is where users go.
    """

    client: FlyClient
    app: str
    machines: Mapping[str, str]
    url: str

    async def ask(self, region: str, asks: Sequence[Ask]) -> list[Answer]:
        """As in Asker."""
        machine = self.machines.get(region)
        if machine is None:
            return [Answer(error="no machine runs there to ask from")] * len(asks)
        said = json.dumps([asdict(ask) for ask in asks])
        command = ["python", "-m", "viral_engine.operations.verifying.asks", self.url, said]
        try:
            done = await self.client.exec(self.app, machine, command, timeout=ASKED_WITHIN)
            return [Answer(**answer) for answer in json.loads(done.stdout)]
        except PlatformError as error:
            return [Answer(error=error.message)] * len(asks)
        except (ValueError, TypeError):
            return [Answer(error=(done.stderr or done.stdout).strip()[-300:])] * len(asks)
