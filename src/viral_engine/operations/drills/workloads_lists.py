"""Transactions on the statements of accounts: each transfer appends to two and reads both."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from viral_engine.errors import WaitTimeoutError
from viral_engine.operations.drills.clients import Call, Client, Seen
from viral_engine.operations.drills.customers import (
    Customers,
    Life,
    Purse,
    acknowledged,
    settled,
    since_fault,
    strongly,
)
from viral_engine.operations.drills.history import Kind, Operation, Step
from viral_engine.operations.drills.lists import check_lists
from viral_engine.operations.drills.outcomes import Answer
from viral_engine.operations.drills.workload import Judged, Played, Setting

__all__ = ["Statements"]

OFTEN = timedelta(milliseconds=800)
ACCOUNTS = 4
DEPOSIT = 10_000
FULL = 60
"""Transfers after which a book is closed: all that is in it must fit one page of 200 movements."""


@dataclass(slots=True)
class _Book:
    """Some accounts, and how many transfers between them were begun."""

    purse: Purse
    begun: int = 0


class Statements:
    """List-append: one transfer of a cent is one transaction that appends its name to two lists.

    It reads both as well, and readers read all lists of a book at once. Strong transactions must
    look as if they happened one after another, in the order that time gave them.
    """

    name = "list-append"

    def __init__(self, setting: Setting, *, books: int = 3) -> None:
        self._customers = Customers(setting)
        self._spare = books
        self._books: list[_Book] = []

    async def prepare(self) -> None:
        """Open the first books."""
        for _ in range(self._spare):
            self._books.append(await self._opened())

    def loops(self, stop: asyncio.Event) -> Sequence[Coroutine[Any, Any, None]]:
        """Return who transfers, who reads, and who opens new books when the old ones are full."""
        writers = Life("writer", 1, OFTEN, self._transfer)
        readers = Life("reader", 1, OFTEN, self._read)
        return [*self._customers.lives(stop, writers, readers), self._keep_books(stop)]

    async def finish(self) -> None:
        """Read every book once more from every region."""
        for region in self._customers.edges:
            async with self._customers.client(f"final-{region}", region) as client:
                for book in self._books:
                    await settled(client, _all_of(book.purse), _read_of(book.purse))

    def judge(self, history: Sequence[Operation], played: Played) -> Judged:
        """Rule on the order that explains all transactions."""
        return Judged(
            check_lists(history),
            operations=len(history),
            at_stake={
                "transfers": acknowledged(history, Kind.WRITE),
                "reads of all lists": acknowledged(history, Kind.READ),
                "successes since the fault": since_fault(history, played),
            },
        )

    async def _opened(self) -> _Book:
        return _Book(await self._customers.purse(ACCOUNTS, cents=DEPOSIT))

    async def _keep_books(self, stop: asyncio.Event) -> None:
        keeping = asyncio.create_task(self._keep())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({keeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            keeping.cancel()
            stopping.cancel()
        await asyncio.wait({keeping})
        if not keeping.cancelled():
            keeping.result()

    async def _keep(self) -> None:
        while True:
            if sum(book.begun < FULL for book in self._books) < self._spare:
                # Where nothing can be written for long, nobody fills the books either.
                with suppress(WaitTimeoutError):
                    self._books.append(await self._opened())
            await asyncio.sleep(OFTEN.total_seconds())

    async def _transfer(self, client: Client) -> None:
        unfilled = [book for book in self._books if book.begun < FULL]
        if not unfilled:
            return
        book = self._customers.random.choice(unfilled)
        book.begun += 1
        await client.act(*self._transfer_in(book.purse))

    def _transfer_in(self, purse: Purse) -> tuple[Call, Any]:
        source, target = self._customers.random.sample(purse.accounts, 2)
        name = self._customers.unique()
        appends = (Step(source, appended=name), Step(target, appended=name))
        body = {"source_id": source, "target_id": target, "amount_cents": 1, "note": name,
                "statement": 100}  # fmt: skip
        call = strongly(
            Kind.WRITE, purse.organization, "POST", "/api/billing/transfers",
            body=body, written=name, steps=appends,
        )  # fmt: skip

        def seen(answer: Answer) -> Seen:
            return Seen(steps=appends + _lists(answer.body["statement"], (source, target)))

        return call, seen

    async def _read(self, client: Client) -> None:
        purse = self._customers.random.choice(self._books).purse
        await client.act(_all_of(purse), _read_of(purse))


def _all_of(purse: Purse) -> Call:
    return strongly(Kind.READ, purse.organization, "GET", f"{purse.path('entries')}?limit=200")


def _read_of(purse: Purse) -> Any:
    return lambda answer: Seen(steps=_lists(answer.body["items"], purse.accounts))


def _lists(entries: Sequence[Mapping[str, Any]], accounts: Sequence[str]) -> tuple[Step, ...]:
    # The deposit, which has no note, was there before the history began.
    return tuple(
        Step(
            account,
            found=tuple(e["note"] for e in entries if e["account_id"] == account and e["note"]),
        )
        for account in accounts
    )
