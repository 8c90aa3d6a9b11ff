from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import psycopg
from psycopg.pq import TransactionStatus

from viral_engine.data.databases import Databases, ReadLoan
from viral_engine.data.decide import Need
from viral_engine.data.pools import Connection
from viral_engine.data.reads import CONFLICTS
from viral_engine.data.request import Detour, RequestRoute, current_route
from viral_engine.data.writes import first_line, is_gone
from viral_engine.errors import (
    DatabaseError,
    NodeGoneError,
    NoPrimaryError,
    ReplicaUnavailableError,
)

__all__ = ["Loan", "Purpose", "UndoneError", "lend", "purpose_of"]


class Purpose(StrEnum):
    """What a transaction is for."""

    READING = "reading"
    WRITING = "writing"


class UndoneError(Exception):
    """The transaction was rolled back by whoever had opened it."""


@dataclass(frozen=True, slots=True)
class Loan:
    """A connection for one transaction."""

    connection: Connection
    purpose: Purpose
    bound: RequestRoute | None
    is_near: bool = False

    def meaning(self, error: psycopg.Error) -> DatabaseError | None:
        """Return what a statement's error means across regions, None where it means itself.

        A refusal that another node would not give is noted in the request's route.
        """
        if self.purpose is Purpose.WRITING:
            if isinstance(error, psycopg.errors.ReadOnlySqlTransaction) or is_gone(error):
                return self._noted(NoPrimaryError(first_line(error)))
            return None
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            self._detour(Detour.WRITE_IN_READ)
            return None
        if self.is_near and isinstance(error, CONFLICTS):
            self._detour(Detour.CONFLICT)
            return ReplicaUnavailableError(first_line(error))
        return self._noted(NodeGoneError(first_line(error))) if is_gone(error) else None

    def _noted(self, fault: DatabaseError) -> DatabaseError:
        if self.bound:
            self.bound.note_fault(fault)
        return fault

    def _detour(self, why: Detour) -> None:
        if self.bound:
            self.bound.detour = why


@asynccontextmanager
async def lend(
    databases: Databases, purpose: Purpose | None, *, isolation: str = ""
) -> AsyncIterator[Loan]:
    """Lend for one transaction at one node, committed when the block ends well.

    Without a ``purpose`` it is what the request needs; outside of a request, writing. Raises as
    ``Databases.writing`` and ``Databases.reading``.
    """
    bound = current_route()
    level = f" isolation level {isolation}".encode() if isolation else b""
    purpose = purpose or purpose_of(bound)
    if purpose is Purpose.WRITING:
        async with databases.writing() as connection:
            if level:
                await connection.execute(b"set transaction" + level, prepare=False)
            yield Loan(connection, purpose, bound)
        return
    async with databases.read_loan() as loan:
        connection, undone = loan.connection, False
        with bound.reading(partial(_tell, loan)) if bound else nullcontext():
            # By a pooler it is lent in a transaction, which may have looked at something already.
            lent_in_one = connection.info.transaction_status is TransactionStatus.INTRANS
            begin = b"rollback; begin read only" if lent_in_one else b"begin read only"
            await connection.execute(begin + level, prepare=False)
            try:
                yield Loan(connection, purpose, bound, is_near=loan.is_near)
            except UndoneError:
                undone = True
        if not connection.closed:
            if not lent_in_one:  # there, another session might answer for what this one read
                await connection.rollback()
            await _told(loan, bound, undone=undone)
        elif bound and bound.consistency.is_strong:
            bound.must_not_answer(NoPrimaryError("The database that was read went away."))


def purpose_of(bound: RequestRoute | None) -> Purpose:
    """Return what a transaction is for that nobody said it of."""
    if bound is None or bound.writes_anyway or bound.transaction is not None:
        return Purpose.WRITING
    return Purpose.WRITING if bound.need is Need.PRIMARY else Purpose.READING


async def _tell(loan: ReadLoan) -> None:
    """Count in what was read by ``loan`` until now."""
    if loan.connection.info.transaction_status is TransactionStatus.INERROR:
        # Nothing can be asked in it, and nothing but undoing it is left to whoever opened it.
        await loan.connection.rollback()
    await loan.count_in()


async def _told(loan: ReadLoan, bound: RequestRoute | None, *, undone: bool) -> None:
    """Count in what a transaction has read that is over now."""
    if bound and bound.is_answered:
        return
    try:
        await _tell(loan)
    except DatabaseError as fault:
        if bound is None or not undone:
            raise
        # SQLAlchemy undoes a transaction on its way out, and may be passing on an error already.
        bound.must_not_answer(fault)
