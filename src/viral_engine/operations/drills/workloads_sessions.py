"""Sessions that move between regions at random, with their tokens and, as the control, without.

Each session alone writes its own row and reads those of its group, so that the order of a row's
versions follows from what its writer built on: every write insists on the version before it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any

from viral_engine.clock import NotYet, wait_until
from viral_engine.operations.drills.clients import DEADLINE, Book, Client, Row, Session
from viral_engine.operations.drills.history import Kind, Operation, Outcome, Value
from viral_engine.operations.drills.versions import Versions
from viral_engine.operations.drills.workloads import INITIAL, STRONG, made, paced

__all__ = ["SessionLoad", "SessionPlan", "versions_of"]

ARRIVES_WITHIN = timedelta(seconds=30)
OWN = 0.7
"""Share of a session's reads that are of its own row."""


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """How many sessions keep their tokens and how many drop them, and how often each asks."""

    keeping: int = 6
    dropping: int = 4
    every: timedelta = timedelta(milliseconds=250)
    deadline: timedelta = DEADLINE


@dataclass(slots=True)
class _Member:
    """A session with its row and the last version of it that the primary told."""

    session: Session
    row: Row
    group: list[Row]
    value: Value = INITIAL
    revision: int = 1
    clients: dict[str, Client] = field(default_factory=dict)


class SessionLoad:
    """Tasks that sessions retitle and read, each request in a region of its own."""

    def __init__(
        self, edges: Mapping[str, str], book: Book, plan: SessionPlan, *, seed: int, first: str
    ) -> None:
        self._edges = edges
        self._book = book
        self._plan = plan
        self._first = first
        self._random = Random(seed)  # noqa: S311 - a schedule that can be repeated
        self._members: list[_Member] = []
        self._count = 0

    async def prepare(self) -> None:
        """Make every session's row and wait until all regions have it."""
        run = uuid.uuid4().hex[:8]
        for dropped, count in ((False, self._plan.keeping), (True, self._plan.dropping)):
            group: list[Row] = []
            for number in range(count):
                name = f"{'dropping' if dropped else 'keeping'}-{number}"
                async with self._client(Session("setup"), self._first) as client:
                    path = await made(client, "/api/tasks", {"title": INITIAL, "description": run})
                row = Row(f"task-{name}", path, "title")
                group.append(row)
                self._members.append(_Member(Session(name, dropped=dropped), row, group))
        for region in self._edges:
            async with self._client(Session("setup"), region) as client:
                for member in self._members:
                    await self._arrival(client, member.row)

    def loops(self, stop: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
        """Return every session's life, for ``under_load``."""
        return [self._life(member, stop) for member in self._members]

    async def final(self) -> dict[str, dict[str, Value]]:
        """Return what a strong read finds of each row, by region."""
        found: dict[str, dict[str, Value]] = {}
        for region in self._edges:
            async with self._client(Session("final"), region) as client:
                found[region] = {
                    member.row.key: await _strongly(client, member.row) for member in self._members
                }
        return found

    async def _life(self, member: _Member, stop: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            for region in self._edges:
                client = self._client(member.session, region)
                member.clients[region] = await stack.enter_async_context(client)
            await paced(
                lambda: self._step(member), every=self._plan.every, stop=stop, random=self._random
            )

    async def _step(self, member: _Member) -> None:
        client = member.clients[self._random.choice(list(member.clients))]
        if self._random.random() < 1 / 3:
            await self._write(member, client)
            # At once and mostly elsewhere: where sessions that are not led well go wrong.
            await member.clients[self._random.choice(list(member.clients))].read(member.row)
        elif self._random.random() < OWN:
            await client.read(member.row)
        else:
            await client.read(self._random.choice(member.group))

    async def _write(self, member: _Member, client: Client) -> None:
        """Write over the version that the primary told last; a refusal tells the one that is there."""
        self._count += 1
        value = f"w-{self._count}"
        done, answer = await client.change(
            member.row, value, at=member.revision, instead_of=member.value
        )
        if done.outcome is Outcome.OK and done.revision is not None:
            member.value, member.revision = value, done.revision
        elif done.mismatched:
            current = answer.body["current"]
            member.value, member.revision = current["title"], current["version"]

    async def _arrival(self, client: Client, row: Row) -> None:
        async def arrived() -> bool | NotYet:
            answer = await client.ask("GET", row.path)
            return answer.status == 200 or NotYet(f"{answer.status} {answer.problem}")

        await wait_until(
            arrived, timeout=ARRIVES_WITHIN, waiting_for=f"{row.key} to reach {client.region}"
        )

    def _client(self, session: Session, region: str) -> Client:
        return Client(
            session, region, self._edges[region], self._book, deadline=self._plan.deadline
        )


async def _strongly(client: Client, row: Row) -> Value:
    async def read() -> list[Value] | NotYet:
        answer = await client.ask("GET", row.path, headers=STRONG)
        if answer.status != 200:
            return NotYet(f"{answer.status} {answer.problem}")
        return [answer.body[row.field]]

    (value,) = await wait_until(
        read, timeout=ARRIVES_WITHIN, waiting_for=f"a strong read of {row.key}"
    )
    return value


def versions_of(history: Iterable[Operation], final: Mapping[str, Value]) -> Versions:
    """Return the order of versions, from what every write insisted on and what is there at last.

    What was acknowledged or read and does not lead to the final value was lost on the way; what grew
    from a value that nobody can have written is no version at all.
    """
    operations = list(history)
    before = {
        (one.key, one.written): one.expected
        for one in operations
        if one.kind is Kind.CAS and one.outcome is not Outcome.FAIL
    }
    kept = {key: _back(key, value, before) for key, value in final.items()}
    known = {(key, value) for key, chain in kept.items() for value in (INITIAL, *chain)}
    adrift: set[tuple[str, Value]] = set()
    lost: dict[str, list[Sequence[Value]]] = {key: [] for key in final}
    for key, value in _seen(operations):
        branch: list[Value] = []
        while (key, value) in before and (key, value) not in known and (key, value) not in adrift:
            branch.append(value)
            value = before[key, value]  # noqa: PLW2901 - back along the chain
        if (key, value) not in known:
            adrift.update((key, one) for one in branch)
        elif branch:
            known.update((key, one) for one in branch)
            lost[key].append((value, *reversed(branch)))
    return Versions(kept, {key: found for key, found in lost.items() if found}, initial=INITIAL)


def _back(key: str, value: Value, before: Mapping[tuple[str, Value], Value]) -> tuple[Value, ...]:
    chain: list[Value] = []
    while value != INITIAL:
        chain.append(value)
        if (key, value) not in before:
            break
        value = before[key, value]
    return tuple(reversed(chain))


def _seen(operations: Iterable[Operation]) -> list[tuple[str, Value]]:
    """Return every value that was certainly there once, in the order of calls."""
    shown = [one for one in operations if one.outcome is Outcome.OK]
    return [
        (one.key, one.found if one.kind is Kind.READ else one.written)
        for one in sorted(shown, key=lambda one: one.called_at)
    ]
