from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from viral_engine.data import Databases, read_statements
from viral_engine.service.audit_logs import AuditLogs
from viral_engine.service.changes import Connection, created_row
from viral_engine.service.cursor import Cursor
from viral_engine.service.ids import new_id
from viral_engine.service.pages import Page, read_page

__all__ = ["Account", "Billing", "Entry", "EntryKind", "Refused", "Transfer", "why_refused"]

MAX_BALANCE_CENTS = 10**15
"""Ten million million in whole money; far below where 64 bits end."""


class EntryKind(StrEnum):
    """What moved the money of an entry."""

    CREDIT = "credit"
    CHARGE = "charge"
    TRANSFER = "transfer"


@dataclass(frozen=True, slots=True)
class Account:
    """One account; its balance is the sum of its entries and never below zero."""

    id: UUID
    organization_id: UUID
    name: str
    balance_cents: int
    created_at: datetime
    updated_at: datetime
    version: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One movement: ``amount_cents`` is negative for money that left, the balance is the one after."""

    id: UUID
    account_id: UUID
    kind: EntryKind
    amount_cents: int
    balance_cents: int
    transfer_id: UUID | None
    note: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Transfer:
    """Money that went from one account to another: both entries, or neither.

    ``statement`` has the latest movements of both accounts, these included, as far as asked for.
    """

    id: UUID
    source: Entry
    target: Entry
    statement: Sequence[Entry] = ()


R = TypeVar("R", Account, Entry)


@dataclass(frozen=True, slots=True)
class Refused:
    """A movement that was not made: the account that does not bear it, and why."""

    current: Account
    reason: str


@dataclass(frozen=True, slots=True)
class _Movement:
    kind: EntryKind
    amount_cents: int
    note: str
    transfer_id: UUID | None = None


def why_refused(balance_cents: int, amount_cents: int) -> str | None:
    """Return why a balance does not bear an amount, None where it does; the table refuses the same."""
    after = balance_cents + amount_cents
    if after < 0:
        return f"the balance is {balance_cents} cents and {-amount_cents} were asked for"
    if after > MAX_BALANCE_CENTS:
        return f"an account holds at most {MAX_BALANCE_CENTS} cents"
    return None


class Billing:
    """Keeps accounts; a movement, its entries and its audit record are one transaction."""

    def __init__(self, databases: Databases, audit: AuditLogs) -> None:
        self._databases = databases
        self._audit = audit
        self._sql = read_statements("viral_engine.service", "queries/billing.sql")

    async def open(self, *, organization_id: UUID, name: str) -> Account | None:
        """Open an account without money; None where there is no such organization."""
        values = {"id": new_id(), "organization_id": organization_id, "name": name}
        try:
            async with self._databases.writing() as connection:
                query = self._sql["create_account"]
                account = await created_row(connection, query, values, row=Account)
                await self._audit.record(
                    connection,
                    resource="billing",
                    row_id=account.id,
                    action="opened",
                    details={"version": account.version, "organization": str(organization_id)},
                )
                return account
        except psycopg.errors.ForeignKeyViolation:
            return None

    async def get(self, account_id: UUID) -> Account | None:
        """Return the account of that id, None where there is none."""
        found = await self._databases.select(
            self._sql["get_account"], {"id": account_id}, row_factory=class_row(Account)
        )
        return found[0] if found else None

    async def page(self, *, after: Cursor | None, limit: int) -> Page[Account]:
        """Return up to ``limit`` accounts (at most 200) that were opened after the cursor's."""
        return await self._page("list_billing_accounts", Account, after, limit)

    async def page_of(
        self, organization_id: UUID, *, after: Cursor | None, limit: int
    ) -> Page[Account]:
        """Return the same of one organization: the balances of a page are those of one moment."""
        values = {"organization_id": organization_id}
        return await self._page("list_organization_accounts", Account, after, limit, values)

    async def entries(self, account_id: UUID, *, after: Cursor | None, limit: int) -> Page[Entry]:
        """Return up to ``limit`` entries (at most 200) of an account, in the order of its balances."""
        values = {"account_id": account_id}
        return await self._page("list_entries", Entry, after, limit, values)

    async def entries_of(
        self, organization_id: UUID, *, after: Cursor | None, limit: int
    ) -> Page[Entry]:
        """Return up to ``limit`` entries (at most 200) of all accounts of an organization."""
        values = {"organization_id": organization_id}
        return await self._page("list_organization_entries", Entry, after, limit, values)

    async def move(
        self, account_id: UUID, *, kind: EntryKind, amount_cents: int, note: str
    ) -> Entry | Refused | None:
        """Add to an account (a negative amount takes) and return the entry; None without account."""
        async with self._databases.writing() as connection:
            movement = _Movement(kind, amount_cents, note)
            entry = await self._moved(connection, account_id, movement)
            if entry is not None:
                return entry
            found = await self._locked(connection, [account_id])
            if not found:
                return None
            # Since then it may have been filled; nothing was moved, and it is said what there is.
            reason = why_refused(found[0].balance_cents, amount_cents)
            return Refused(found[0], reason or "the balance was another a moment ago")

    async def transfer(
        self, source_id: UUID, target_id: UUID, *, amount_cents: int, note: str, statement: int = 0
    ) -> Transfer | Refused | UUID:
        """Move money between two accounts; the id of one that is not there comes back alone.

        ``statement`` is how many of the latest movements of each account are read with it.
        """
        async with self._databases.writing() as connection:
            locked = await self._locked(connection, [source_id, target_id])
            accounts = {account.id: account for account in locked}
            for account_id, amount in ((source_id, -amount_cents), (target_id, amount_cents)):
                if account_id not in accounts:
                    return account_id
                reason = why_refused(accounts[account_id].balance_cents, amount)
                if reason:
                    return Refused(accounts[account_id], reason)
            transfer_id = new_id()
            taken = _Movement(EntryKind.TRANSFER, -amount_cents, note, transfer_id)
            given = _Movement(EntryKind.TRANSFER, amount_cents, note, transfer_id)
            source = await self._moved(connection, source_id, taken)
            target = await self._moved(connection, target_id, given)
            if source is None or target is None:
                msg = "an account changed while it was locked"
                raise AssertionError(msg)
            if not statement:
                return Transfer(transfer_id, source, target)
            # Both accounts are locked until the end: nothing comes between the movement and this.
            found = await self._latest(connection, [source_id, target_id], limit=statement)
            return Transfer(transfer_id, source, target, found)

    async def _page(
        self,
        statement: str,
        row: type[R],
        after: Cursor | None,
        limit: int,
        values: Mapping[str, object] | None = None,
    ) -> Page[R]:
        first, following = self._sql[statement], self._sql[f"{statement}_after"]
        return await read_page(
            self._databases, first, following, row=row, after=after, limit=limit, values=values
        )

    async def _latest(self, connection: Connection, ids: list[UUID], *, limit: int) -> list[Entry]:
        cursor = connection.cursor(row_factory=class_row(Entry))
        await cursor.execute(self._sql["latest_entries"], {"ids": ids, "limit": limit})
        return await cursor.fetchall()

    async def _locked(self, connection: Connection, ids: list[UUID]) -> list[Account]:
        cursor = connection.cursor(row_factory=class_row(Account))
        await cursor.execute(self._sql["lock_accounts"], {"ids": ids})
        return await cursor.fetchall()

    async def _moved(
        self, connection: Connection, account_id: UUID, movement: _Movement
    ) -> Entry | None:
        values = {
            "entry_id": new_id(),
            "account_id": account_id,
            "kind": movement.kind.value,
            "amount_cents": movement.amount_cents,
            "transfer_id": movement.transfer_id,
            "note": movement.note,
        }
        cursor = connection.cursor(row_factory=class_row(Entry))
        await cursor.execute(self._sql["move"], values)
        entry = await cursor.fetchone()
        if entry is not None:
            moved = {"amount_cents": entry.amount_cents, "balance_cents": entry.balance_cents}
            await self._audit.record(
                connection,
                resource="billing",
                row_id=account_id,
                action=movement.kind.value,
                details=moved | {"entry": str(entry.id)},
            )
        return entry
