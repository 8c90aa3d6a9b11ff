"""What clients do while something is broken: at a bounded rate, and until they are told to stop."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any

from viral_engine.clock import NotYet, wait_until
from viral_engine.operations.drills.clients import DEADLINE, Book, Client, Row, Session
from viral_engine.operations.drills.history import Outcome, Value
from viral_engine.operations.drills.outcomes import Answer

__all__ = ["INITIAL", "StrongLoad", "StrongPlan", "everything", "made", "paced", "under_load"]

INITIAL = "start"
"""What every row holds before the first write."""

LONGEST = timedelta(minutes=10)
PREPARED_WITHIN = timedelta(seconds=30)
ATTEMPTS = 3
PAGE = 200
STRONG: Mapping[str, str] = {"viral-consistency": "strong"}


async def paced(
    step: Callable[[], Awaitable[None]], *, every: timedelta, stop: asyncio.Event, random: Random
) -> None:
    """Do ``step`` about once ``every`` so long, one at a time, until ``stop``; never in bursts."""
    period = every.total_seconds()
    clock = asyncio.get_running_loop()
    due = clock.time() + random.random() * period
    while not stop.is_set():
        try:
            await asyncio.wait_for(stop.wait(), max(0.0, due - clock.time()))
        except TimeoutError:
            await step()
            due = max(due, clock.time() - period) + period * random.uniform(0.8, 1.2)


@asynccontextmanager
async def under_load(
    loops: Callable[[asyncio.Event], Sequence[Coroutine[Any, Any, None]]],
) -> AsyncIterator[None]:
    """Run clients beside the block; each ends its last request, and none outlives ten minutes."""
    stop = asyncio.Event()
    timer = asyncio.get_running_loop().call_later(LONGEST.total_seconds(), stop.set)
    try:
        async with asyncio.TaskGroup() as group:
            for loop in loops(stop):
                group.create_task(loop)
            try:
                yield
            finally:
                stop.set()
    finally:
        timer.cancel()


async def made(client: Client, path: str, body: Mapping[str, object]) -> str:
    """Create something before the load begins and return its path, repeated until it is there."""
    headers = {"idempotency-key": uuid.uuid4().hex}

    async def created() -> str | NotYet:
        answer = await client.ask("POST", path, body=body, headers=headers)
        if answer.status != 201:
            return NotYet(_said(answer))
        return f"{path}/{answer.body['id']}"

    return await wait_until(created, timeout=PREPARED_WITHIN, waiting_for=f"a row at {path}")


async def everything(client: Client, path: str, *, after: str = "") -> list[Mapping[str, Any]]:
    """Return all rows of a resource by strong reads, repeated until each page was answered.

    With ``after``, which a page gave as its ``next``, only those that follow it.
    """
    rows: list[Mapping[str, Any]] = []
    while True:
        query = f"{path}?limit={PAGE}{f'&after={after}' if after else ''}"

        async def page(query: str = query) -> Answer | NotYet:
            answer = await client.ask("GET", query, headers=STRONG)
            return answer if answer.status == 200 else NotYet(_said(answer))

        got = await wait_until(page, timeout=PREPARED_WITHIN, waiting_for=f"a page of {path}")
        rows += got.body["items"]
        after = got.body.get("next") or ""
        if not after:
            return rows


def _said(answer: Answer) -> str:
    return f"{answer.status} {answer.problem or answer.text}".strip()


@dataclass(frozen=True, slots=True)
class StrongPlan:
    """How much is done to strong resources: clients in each region, and how often each asks."""

    keys: int = 3
    readers: int = 4
    writers: int = 2
    adders: int = 1
    read_every: timedelta = timedelta(milliseconds=120)
    write_every: timedelta = timedelta(milliseconds=300)
    add_every: timedelta = timedelta(milliseconds=500)
    deadline: timedelta = DEADLINE


class StrongLoad:
    """Registers and a set, both strong, used from every region at once.

    Registers are the names of a few users, each value written once; the set is organizations,
    whose names nothing keeps apart, so that an effect that happens twice shows. An addition of
    unknown outcome is tried again with its idempotency key. Every second client drops its session
    token: what is strong must not depend on it.
    """

    def __init__(
        self, edges: Mapping[str, str], book: Book, plan: StrongPlan, *, seed: int, first: str
    ) -> None:
        self.plan = plan
        self._edges = edges
        self._book = book
        self._random = Random(seed)  # noqa: S311 - a schedule that can be repeated
        self._first = first
        self._run = uuid.uuid4().hex[:8]
        self._rows: list[Row] = []
        self._count = 0

    async def prepare(self) -> None:
        """Make the rows that will be read and written."""
        async with self._client("setup", self._first) as client:
            owner = await made(client, "/api/organizations", {"name": "drill"})
            for number in range(self.plan.keys):
                new = {
                    "organization_id": owner.rpartition("/")[2],
                    "email": f"{self._run}-{number}@drill.example",
                    "display_name": INITIAL,
                }
                path = await made(client, "/api/users", new)
                self._rows.append(Row(f"user-{number}", path, "display_name"))

    def loops(self, stop: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
        """Return every client's life, for ``under_load``."""
        plan = self.plan
        kinds = (
            ("reader", plan.readers, plan.read_every, self._read),
            ("writer", plan.writers, plan.write_every, self._write),
            ("adder", plan.adders, plan.add_every, self._add),
        )
        return [
            self._life(self._client(f"{kind}-{region}-{number}", region, number), every, act, stop)
            for region in self._edges
            for kind, count, every, act in kinds
            for number in range(count)
        ]

    async def final(self) -> dict[str, list[Value]]:
        """Read every register once more from every region, and return the set as each finds it."""
        sets: dict[str, list[Value]] = {}
        for region in self._edges:
            async with self._client(f"final-{region}", region) as client:
                for row in self._rows:
                    await client.read(row)
                names = [one["name"] for one in await everything(client, "/api/organizations")]
            sets[region] = [name for name in names if name.startswith(f"{self._run}-")]
        return sets

    async def _life(
        self,
        client: Client,
        every: timedelta,
        act: Callable[[Client], Awaitable[None]],
        stop: asyncio.Event,
    ) -> None:
        async with client:
            await paced(lambda: act(client), every=every, stop=stop, random=self._random)

    async def _read(self, client: Client) -> None:
        await client.read(self._random.choice(self._rows))

    async def _write(self, client: Client) -> None:
        await client.change(self._random.choice(self._rows), self._unique("w"))

    async def _add(self, client: Client) -> None:
        name, key = self._unique("s"), uuid.uuid4().hex
        for attempt in range(1, ATTEMPTS + 1):
            done = await client.add(
                "organizations", "/api/organizations", name, idempotency_key=key, attempt=attempt
            )
            if done.outcome is not Outcome.UNKNOWN:
                return

    def _unique(self, kind: str) -> str:
        self._count += 1
        return f"{self._run}-{kind}-{self._count}"

    def _client(self, name: str, region: str, number: int = 0) -> Client:
        session = Session(name, dropped=number % 2 == 1)
        return Client(session, region, self._edges[region], self._book, deadline=self.plan.deadline)
