from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from viral_engine.service.billing import EntryKind
from viral_engine.service.shapes import Note, Title

__all__ = [
    "AccountPage",
    "AccountShape",
    "EntryPage",
    "EntryShape",
    "Movement",
    "NewAccount",
    "NewTransfer",
    "TransferShape",
]

MAX_STATEMENT = 100
"""Movements of each account that a transfer may be answered with."""

Amount = Annotated[
    int, Field(strict=True, ge=1, le=10**12, description="In cents; the call says the direction")
]


class NewAccount(BaseModel):
    """An account to be opened; it begins with nothing."""

    model_config = ConfigDict(extra="forbid")

    organization_id: UUID
    name: Title


class Movement(BaseModel):
    """Money to be charged or credited."""

    model_config = ConfigDict(extra="forbid")

    amount_cents: Amount
    note: Note = ""


class NewTransfer(BaseModel):
    """Money to go from one account to another."""

    model_config = ConfigDict(extra="forbid")

    source_id: UUID
    target_id: UUID
    amount_cents: Amount
    note: Note = ""
    statement: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=MAX_STATEMENT,
            description="Answer so many latest movements"
            " of each of the two accounts, read in the transfer's own transaction",
        ),
    ] = 0

    @model_validator(mode="after")
    def _between_two(self) -> Self:
        if self.source_id == self.target_id:
            msg = "source_id and target_id are the same account"
            raise ValueError(msg)
        return self


class AccountShape(BaseModel):
    """An account as it is answered."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    organization_id: UUID
    name: str
    balance_cents: int
    created_at: datetime
    updated_at: datetime
    version: int


class EntryShape(BaseModel):
    """A movement as it is answered, with the balance that it led to."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    account_id: UUID
    kind: EntryKind
    amount_cents: int
    balance_cents: int
    transfer_id: UUID | None
    note: str
    created_at: datetime


class TransferShape(BaseModel):
    """A transfer as it is answered: what left, what came, and the statement that was asked for."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    source: EntryShape
    target: EntryShape
    statement: list[EntryShape]


class AccountPage(BaseModel):
    """Some accounts in the order of their opening; ``next`` is the ``after`` of the next page."""

    items: list[AccountShape]
    next: str | None


class EntryPage(BaseModel):
    """Some entries in the order of their balances; ``next`` is the ``after`` of the next page."""

    items: list[EntryShape]
    next: str | None
