"""Money on the move from every region at once: a bank, and counters to which is only added."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from viral_engine.operations.drills.clients import Client, Seen
from viral_engine.operations.drills.customers import (
    ACCOUNTS,
    Customers,
    Life,
    Purse,
    acknowledged,
    certain,
    settled,
    since_fault,
    strongly,
)
from viral_engine.operations.drills.durable import check_set
from viral_engine.operations.drills.history import Kind, Operation, Step, Value
from viral_engine.operations.drills.money import check_bank, check_counter
from viral_engine.operations.drills.outcomes import Answer
from viral_engine.operations.drills.verdict import all_of
from viral_engine.operations.drills.workload import Judged, Played, Setting

__all__ = ["Bank", "Counters"]

OFTEN = timedelta(milliseconds=800)
DEPOSIT = 500
"""Cents in each account of the bank before the first transfer."""


class Bank:
    """Transfers between a few accounts, and reads of all balances at once."""

    name = "bank"

    def __init__(self, setting: Setting, *, accounts: int = 5) -> None:
        self._customers = Customers(setting)
        self._count = accounts
        self._purse = Purse("", ())
        self._entries: Mapping[str, Sequence[Mapping[str, Any]]] = {}

    async def prepare(self) -> None:
        """Open the accounts, each with its deposit."""
        self._purse = await self._customers.purse(self._count, cents=DEPOSIT)

    def loops(self, stop: asyncio.Event) -> Sequence[Coroutine[Any, Any, None]]:
        """Return who transfers and who reads."""
        payers = Life("payer", 1, OFTEN, self._pay)
        return self._customers.lives(stop, payers, Life("reader", 1, OFTEN, self._read))

    async def finish(self) -> None:
        """Read all balances once more from every region, and every movement."""
        for region in self._customers.edges:
            async with self._customers.client(f"final-{region}", region) as client:
                await settled(client, self._all_balances(), _balances)
        self._entries = await self._customers.in_each_region(self._purse.path("entries"))

    def judge(self, history: Sequence[Operation], played: Played) -> Judged:
        """Rule on the total that each read saw, and on every transfer: made once, or not at all."""
        accounts = frozenset(self._purse.accounts)
        kept = check_bank(history, accounts=accounts, total=DEPOSIT * self._count)
        # What was taken and what was given are two sets that must hold the same transfers.
        halves = {
            f"{region} ({word})": _notes(entries, sign)
            for region, entries in self._entries.items()
            for word, sign in (("taken", -1), ("given", 1))
        }
        return Judged(
            all_of([kept, check_set(history, halves)]),
            operations=len(history),
            at_stake={
                "transfers": acknowledged(history, Kind.WRITE),
                "reads of all balances": acknowledged(history, Kind.READ),
                "successes since the fault": since_fault(history, played),
            },
        )

    async def _pay(self, client: Client) -> None:
        source, target = self._customers.random.sample(self._purse.accounts, 2)
        name = self._customers.unique()
        body = {"source_id": source, "target_id": target, "note": name,
                "amount_cents": self._customers.random.randint(1, 200)}  # fmt: skip
        call = strongly(
            Kind.WRITE, "bank", "POST", "/api/billing/transfers",
            body=body, written=name, idempotency_key=uuid.uuid4().hex,
        )  # fmt: skip
        await certain(client, call, lambda _answer: Seen())

    async def _read(self, client: Client) -> None:
        await client.act(self._all_balances(), _balances)

    def _all_balances(self) -> Any:
        return strongly(Kind.READ, "bank", "GET", self._purse.path("accounts"))


class Counters:
    """Accounts to which is only added: each addition counts once, however often it is sent."""

    name = "counter"

    def __init__(self, setting: Setting, *, counters: int = 2) -> None:
        self._customers = Customers(setting)
        self._count = counters
        self._purse = Purse("", ())
        self._last: dict[str, dict[str, int]] = {}
        self._entries: Mapping[str, Sequence[Mapping[str, Any]]] = {}

    async def prepare(self) -> None:
        """Open the accounts, all empty."""
        self._purse = await self._customers.purse(self._count)

    def loops(self, stop: asyncio.Event) -> Sequence[Coroutine[Any, Any, None]]:
        """Return who adds and who reads."""
        adders = Life("adder", 1, OFTEN, self._add)
        return self._customers.lives(stop, adders, Life("reader", 1, OFTEN, self._read))

    async def finish(self) -> None:
        """Read every counter once more from every region, and every addition."""
        balances = await self._customers.in_each_region(self._purse.path("accounts"))
        self._last = {
            region: {account["id"]: account["balance_cents"] for account in accounts}
            for region, accounts in balances.items()
        }
        self._entries = await self._customers.in_each_region(self._purse.path("entries"))

    def judge(self, history: Sequence[Operation], played: Played) -> Judged:
        """Rule on what every read and the end found, and on every addition: there, and once."""
        named = [
            replace(one, written=one.idempotency_key) if one.kind is Kind.WRITE else one
            for one in history
        ]
        found = {region: _notes(entries, 1) for region, entries in self._entries.items()}
        return Judged(
            all_of([check_counter(history, self._last), check_set(named, found)]),
            operations=len(history),
            at_stake={
                "additions": acknowledged(history, Kind.WRITE),
                "reads": acknowledged(history, Kind.READ),
                "successes since the fault": since_fault(history, played),
            },
        )

    async def _add(self, client: Client) -> None:
        account, name = (
            self._customers.random.choice(self._purse.accounts),
            self._customers.unique(),
        )
        amount = self._customers.random.randint(1, 9)
        call = strongly(
            Kind.WRITE, account, "POST", f"{ACCOUNTS}/{account}/credits",
            body={"amount_cents": amount, "note": name}, written=amount, idempotency_key=name,
        )  # fmt: skip
        await certain(client, call, lambda _answer: Seen())

    async def _read(self, client: Client) -> None:
        account = self._customers.random.choice(self._purse.accounts)
        call = strongly(Kind.READ, account, "GET", f"{ACCOUNTS}/{account}")
        await client.act(call, lambda answer: Seen(answer.body["balance_cents"]))


def _balances(answer: Answer) -> Seen:
    return Seen(
        steps=tuple(
            Step(account["id"], found=(account["balance_cents"],))
            for account in answer.body["items"]
        )
    )


def _notes(entries: Sequence[Mapping[str, Any]], sign: int) -> list[Value]:
    # Deposits have no note.
    return [one["note"] for one in entries if one["note"] and one["amount_cents"] * sign > 0]
