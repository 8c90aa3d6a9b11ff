"""Workloads of the drills against the real service: kept where all is well, broken where it is not."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

import pytest
from tests.services.app_process import app_machine
from tests.services.postgres_pair import PostgresPair
from tests.services.task_service import environ_of

from viral_engine.clock import wait_until
from viral_engine.operations.drills.clients import Book
from viral_engine.operations.drills.history import Recorder
from viral_engine.operations.drills.verdict import Ruling
from viral_engine.operations.drills.workload import Judged, MakeWorkload, Played, Setting
from viral_engine.operations.drills.workloads import under_load
from viral_engine.operations.drills.workloads_lists import Statements
from viral_engine.operations.drills.workloads_money import Bank, Counters
from viral_engine.operations.drills.workloads_once import Owners, Storm

SOON = timedelta(seconds=60)
ENOUGH = 8
PLAYED = Played(primary="iad", lost=frozenset(), began_at=0, faulted_at=0, healed_at=0, ended_at=0)


@dataclass(frozen=True)
class World:
    """The service as both regions reach it, and its database."""

    url: str
    ask: Callable[[str], Awaitable[object]]

    async def run(self, make: MakeWorkload, *, spoiled: str = "") -> Judged:
        """Run a workload, change the database behind its back in the middle, and judge."""
        book = Book(Recorder(io.StringIO()))
        edges = {"iad": self.url, "lhr": self.url}
        load = make(Setting(edges, book, seed=7, primary="iad"))
        await load.prepare()
        async with under_load(load.loops):
            await self._until(book, ENOUGH)
            if spoiled:
                await self.ask(spoiled)
            await self._until(book, len(book.ended) + ENOUGH)
        await load.finish()
        return load.judge(book.ended, replace(PLAYED, ended_at=time.monotonic_ns()))

    async def _until(self, book: Book, count: int) -> None:
        await wait_until(
            lambda: len(book.ended) >= count, timeout=SOON, waiting_for=f"{count} answers"
        )


@pytest.fixture
async def world(postgres_pair: PostgresPair, migrated: str, tmp_path: Path) -> AsyncIterator[World]:
    primary = postgres_pair.primary
    schema = files("viral_engine.data").joinpath("schema.sql").read_text(encoding="utf-8")
    await primary.ask(schema, migrated)
    settings = environ_of(postgres_pair, migrated, "iad")
    async with app_machine(settings, log=tmp_path / "app.log") as machine:
        yield World(machine.url, lambda query: primary.ask(query, migrated))


async def test_every_workload_is_kept_while_nothing_is_broken(world: World) -> None:
    loads: list[MakeWorkload] = [Bank, Counters, Statements, Storm, Owners]
    judged = await asyncio.gather(*(world.run(make) for make in loads))
    for make, one in zip(loads, judged, strict=True):
        assert one.verdict.ruling is Ruling.KEPT, (make, one.verdict)
        assert min(one.at_stake.values()) > 0, (make, one.at_stake)
        assert one.operations > 0


RAISED = "update billing_accounts set balance_cents = balance_cents + 1"
AGAIN = """
    insert into billing_entries (id, account_id, kind, amount_cents, balance_cents, note, created_at)
    select gen_random_uuid(), account_id, kind, amount_cents, balance_cents, note, now()
    from billing_entries where note <> '' and amount_cents > 0 limit 1
"""
FREED = "alter table users drop constraint users_email"


@pytest.mark.parametrize(
    ("make", "spoiled", "guarantee"),
    [
        (Bank, RAISED, "total"),
        (Counters, "update billing_accounts set balance_cents = balance_cents / 2", "too-little"),
        (Statements, AGAIN, "duplicate"),
        (Storm, AGAIN, "twice"),
        (Owners, FREED, "two-owners"),
    ],
)
async def test_what_is_changed_behind_the_users_back_is_found(
    world: World, make: MakeWorkload, spoiled: str, guarantee: str
) -> None:
    judged = await world.run(make, spoiled=spoiled)
    assert guarantee in {str(one.guarantee) for one in judged.verdict.findings}
