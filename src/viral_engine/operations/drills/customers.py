"""What every workload on money stands on: its clients, and an organization with accounts."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Any

from viral_engine.clock import NotYet, wait_until
from viral_engine.operations.drills.clients import Call, Client, Seen, Session
from viral_engine.operations.drills.history import Kind, Operation, Outcome
from viral_engine.operations.drills.outcomes import Answer
from viral_engine.operations.drills.workload import Played, Setting
from viral_engine.operations.drills.workloads import STRONG, everything, made, paced

__all__ = [
    "ACCOUNTS",
    "Customers",
    "Life",
    "Purse",
    "acknowledged",
    "certain",
    "settled",
    "since_fault",
    "stopped",
    "strongly",
]

ACCOUNTS = "/api/billing/accounts"
ORGANIZATIONS = "/api/billing/organizations"
ATTEMPTS = 3
SETTLED_WITHIN = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Purse:
    """An organization and its accounts, by id."""

    organization: str
    accounts: Sequence[str]

    def path(self, what: str) -> str:
        """Return where its ``accounts`` or its ``entries`` are read."""
        return f"{ORGANIZATIONS}/{self.organization}/{what}"


@dataclass(frozen=True, slots=True)
class Life:
    """What ``count`` clients in each region do, about once ``every`` so long."""

    kind: str
    count: int
    every: timedelta
    act: Callable[[Client], Awaitable[None]]


class Customers:
    """Clients of one workload, whose choices can be repeated; every second one drops its token.

    What is strong must not depend on the token, and every request of theirs asks for ``strong``.
    """

    def __init__(self, setting: Setting) -> None:
        self.edges = setting.edges
        self.random = Random(setting.seed)  # noqa: S311 - a schedule that can be repeated
        self.run = uuid.uuid4().hex[:8]
        self._setting = setting
        self._count = 0

    def unique(self) -> str:
        """Return a name that nothing else has."""
        self._count += 1
        return f"{self.run}-{self._count}"

    def client(self, name: str, region: str = "", number: int = 0) -> Client:
        """Return a user of a region, by default the primary's."""
        region = region or self._setting.primary
        session = Session(name, dropped=number % 2 == 1)
        return Client(session, region, self.edges[region], self._setting.book)

    def lives(self, stop: asyncio.Event, *kinds: Life) -> list[Coroutine[Any, Any, None]]:
        """Return the lives of all clients of these kinds in every region."""
        return [
            self._life(self.client(f"{kind.kind}-{region}-{number}", region, number), kind, stop)
            for region in self.edges
            for kind in kinds
            for number in range(kind.count)
        ]

    async def purse(self, accounts: int, *, cents: int = 0) -> Purse:
        """Make an organization with so many accounts, each with so much money."""
        async with self.client("setup") as client:
            path = await made(client, "/api/organizations", {"name": f"drill {self.run}"})
            owner = path.rpartition("/")[2]
            opened = []
            for number in range(accounts):
                new = {"organization_id": owner, "name": f"account {number}"}
                account = await made(client, ACCOUNTS, new)
                if cents:
                    await made(client, f"{account}/credits", {"amount_cents": cents})
                opened.append(account.rpartition("/")[2])
        return Purse(owner, opened)

    async def in_each_region(self, path: str) -> dict[str, list[Mapping[str, Any]]]:
        """Return all rows at a path as a strong read from each region finds them."""
        found = {}
        for region in self.edges:
            async with self.client(f"final-{region}", region) as client:
                found[region] = await everything(client, path)
        return found

    async def _life(self, client: Client, kind: Life, stop: asyncio.Event) -> None:
        async with client:
            await paced(lambda: kind.act(client), every=kind.every, stop=stop, random=self.random)


async def certain(client: Client, call: Call, seen: Callable[[Answer], Seen]) -> Operation:
    """Send a call that has an idempotency key, up to three times while its outcome is unknown."""
    for attempt in range(1, ATTEMPTS):
        done = await client.act(replace(call, attempt=attempt), seen)
        if done.outcome is not Outcome.UNKNOWN:
            return done
    return await client.act(replace(call, attempt=ATTEMPTS), seen)


async def settled(client: Client, call: Call, seen: Callable[[Answer], Seen]) -> Operation:
    """Send a call until it succeeds; every try is in the history. For the time after the fault."""
    attempts = 0

    async def done() -> Operation | NotYet:
        nonlocal attempts
        attempts += 1
        one = await client.act(replace(call, attempt=attempts), seen)
        return one if one.outcome is Outcome.OK else NotYet(f"{one.outcome}: {one.reason}")

    return await wait_until(
        done, timeout=SETTLED_WITHIN, waiting_for=f"{call.method} {call.path} to succeed"
    )


async def stopped(stop: asyncio.Event, *, within: timedelta) -> bool:
    """Wait so long, or less if it is to stop; tell whether it is."""
    try:
        await asyncio.wait_for(stop.wait(), within.total_seconds())
    except TimeoutError:
        return False
    return True


def strongly(kind: Kind, key: str, method: str, path: str, **more: Any) -> Call:
    """Return a call that asks for strong consistency whatever is declared."""
    return Call(kind, key, method, path, headers=STRONG, **more)


def acknowledged(history: Sequence[Operation], kind: Kind) -> int:
    """Count what succeeded of a kind."""
    return sum(one.kind is kind and one.outcome is Outcome.OK for one in history)


def since_fault(history: Sequence[Operation], played: Played) -> int:
    """Count what was called after the fault began and succeeded."""
    return sum(one.called_at > played.faulted_at and one.outcome is Outcome.OK for one in history)
