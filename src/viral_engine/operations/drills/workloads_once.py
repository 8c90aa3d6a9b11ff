"""The same thing asked for from several regions at one time: it happens once, or one gets it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

from viral_engine.operations.drills.clients import Call, Client, Seen
from viral_engine.operations.drills.customers import (
    ACCOUNTS,
    Customers,
    Purse,
    acknowledged,
    settled,
    since_fault,
    stopped,
    strongly,
)
from viral_engine.operations.drills.history import Kind, Operation, Outcome
from viral_engine.operations.drills.once import Effects, check_owners, check_storm, overlaps
from viral_engine.operations.drills.outcomes import Answer
from viral_engine.operations.drills.workload import Judged, Played, Setting
from viral_engine.operations.drills.workloads import paced

__all__ = ["Owners", "Storm"]

EVERY = timedelta(seconds=2.5)
AGAIN_AFTER = timedelta(seconds=1)
TRIES = 8


class Storm:
    """One idempotency key from several clients in every region at once, and again while it fails."""

    name = "idempotency-storm"

    def __init__(self, setting: Setting, *, crowd: int = 2) -> None:
        self._customers = Customers(setting)
        self._crowd = crowd
        self._purse = Purse("", ())
        self._sent: list[Call] = []
        self._answered: set[str] = set()
        self._effects: Effects = {}

    async def prepare(self) -> None:
        """Open the account that the effects are found in."""
        self._purse = await self._customers.purse(1)

    def loops(self, stop: asyncio.Event) -> Sequence[Coroutine[Any, Any, None]]:
        """Return the one life of the whole crowd, for it acts together."""
        return [_together(self._customers, self._crowd, self._storm, stop)]

    async def finish(self) -> None:
        """Send what nobody had an answer to once more, and read every effect from every region."""
        async with self._customers.client("final") as client:
            for call in self._sent:
                if call.idempotency_key not in self._answered:
                    await settled(client, call, _id)
        entries = await self._customers.in_each_region(self._purse.path("entries"))
        self._effects = {
            region: [(entry["note"], entry["id"]) for entry in found]
            for region, found in entries.items()
        }

    def judge(self, history: Sequence[Operation], played: Played) -> Judged:
        """Rule on the effects, and on what the crowd was answered."""
        return Judged(
            check_storm(history, self._effects),
            operations=len(history),
            at_stake={
                "answers": acknowledged(history, Kind.WRITE),
                "keys sent in several regions at once": overlaps(history),
                "successes since the fault": since_fault(history, played),
            },
        )

    async def _storm(self, crowd: Sequence[Client], stop: asyncio.Event) -> None:
        key = self._customers.unique()
        (account,) = self._purse.accounts
        call = strongly(
            Kind.WRITE, "storm", "POST", f"{ACCOUNTS}/{account}/credits",
            body={"amount_cents": 1, "note": key}, written=key, idempotency_key=key,
        )  # fmt: skip
        self._sent.append(call)
        await asyncio.gather(*(self._insist(client, call, stop) for client in crowd))

    async def _insist(self, client: Client, call: Call, stop: asyncio.Event) -> None:
        for _ in range(TRIES):
            done = await client.act(call, _id)
            if done.outcome is Outcome.OK:
                self._answered.add(call.idempotency_key)
                return
            if await stopped(stop, within=AGAIN_AFTER):
                return


class Owners:
    """One e-mail address that users in every region want at once: one of them gets it."""

    name = "uniqueness"

    def __init__(self, setting: Setting, *, crowd: int = 2) -> None:
        self._customers = Customers(setting)
        self._crowd = crowd
        self._purse = Purse("", ())
        self._owners: Effects = {}

    async def prepare(self) -> None:
        """Make the organization that all of them belong to."""
        self._purse = await self._customers.purse(0)

    def loops(self, stop: asyncio.Event) -> Sequence[Coroutine[Any, Any, None]]:
        """Return the one life of the whole crowd, for it acts together."""
        return [_together(self._customers, self._crowd, self._want, stop)]

    async def finish(self) -> None:
        """Read who has which address, from every region."""
        users = await self._customers.in_each_region("/api/users")
        self._owners = {
            region: [(one["email"], one["id"]) for one in found if self._is_ours(one)]
            for region, found in users.items()
        }

    def judge(self, history: Sequence[Operation], played: Played) -> Judged:
        """Rule on who got which address."""
        return Judged(
            check_owners(history, self._owners),
            operations=len(history),
            at_stake={
                "given": acknowledged(history, Kind.CAS),
                "refused": sum(one.mismatched for one in history),
                "wanted in several regions at once": overlaps(history),
                "successes since the fault": since_fault(history, played),
            },
        )

    def _is_ours(self, user: Mapping[str, Any]) -> bool:
        return bool(user["organization_id"] == self._purse.organization)

    async def _want(self, crowd: Sequence[Client], _stop: asyncio.Event) -> None:
        email = f"{self._customers.unique()}@drill.example"
        await asyncio.gather(*(client.act(self._asking(client, email), _id) for client in crowd))

    def _asking(self, client: Client, email: str) -> Call:
        owner = self._purse.organization
        name = client.session.name
        body = {"organization_id": owner, "email": email, "display_name": name}
        return strongly(Kind.CAS, email, "POST", "/api/users", body=body, written=name)


async def _together(
    customers: Customers,
    crowd: int,
    act: Callable[[Sequence[Client], asyncio.Event], Awaitable[None]],
    stop: asyncio.Event,
) -> None:
    """Let one crowd of clients from every region do something at once, again and again."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(customers.client(f"{region}-{number}", region, number))
            for region in customers.edges
            for number in range(crowd)
        ]
        await paced(lambda: act(clients, stop), every=EVERY, stop=stop, random=customers.random)


def _id(answer: Answer) -> Seen:
    return Seen(answer.body["id"])
