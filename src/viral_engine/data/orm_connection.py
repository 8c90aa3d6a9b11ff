from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Protocol, Self

import psycopg
from psycopg import IsolationLevel
from psycopg.errors import Diagnostic

from viral_engine.data.orm_loans import Loan, Purpose, UndoneError
from viral_engine.data.pools import Connection

__all__ = ["LentConnection"]


class Lends(Protocol):
    """Lends for one transaction, as ``orm_loans.lend`` does."""

    def __call__(
        self, purpose: Purpose | None, *, isolation: str
    ) -> AbstractAsyncContextManager[Loan]:
        """Return the loan as a block."""


NoticeHandler = Callable[[Diagnostic], None]


class _LateCursor:
    """A cursor that is made when it is first used.

    Where a statement begins the transaction by itself, SQLAlchemy makes the cursor before that.
    """

    def __init__(self, make: Callable[[], Any], name: str) -> None:
        self._make = make
        if name:
            self.name = name

    async def __aenter__(self) -> Self:
        return self

    def __getattr__(self, name: str) -> Any:
        if name == "name":
            # By this SQLAlchemy 2.0 tells a server's cursor from a client's.
            raise AttributeError(name)
        if name == "_made":
            self._made = self._make()
            return self._made
        return getattr(self._made, name)

    def _close(self) -> None:
        # What SQLAlchemy calls, and it may come before any use.
        if "_made" in self.__dict__:
            self._made._close()  # noqa: SLF001 - as above


class LentConnection:
    """What SQLAlchemy takes for its driver's connection: it has a node only during a transaction.

    Each transaction begins with a loan and ends with it. So all of it is at one node, and the next
    one is led anew.
    """

    def __init__(self, lend: Lends) -> None:
        self._lend = lend
        self._scope: AbstractAsyncContextManager[Loan] | None = None
        self._handlers: list[NoticeHandler] = []
        self._isolation: IsolationLevel | None = None
        self.loan: Loan | None = None
        self.read_only: bool | None = None
        self.deferrable: bool | None = None
        self.autocommit = False

    async def begin(self, purpose: Purpose | None) -> None:
        """Borrow a node's connection for the transaction that begins now; raise as ``lend``."""
        if self.loan is not None:
            return
        isolation = "" if self._isolation is None else self._isolation.name.replace("_", " ")
        scope = self._lend(
            purpose or (Purpose.READING if self.read_only else None), isolation=isolation
        )
        self.loan = await scope.__aenter__()
        self._scope = scope
        for handler in self._handlers:
            self.loan.connection.add_notice_handler(handler)

    async def commit(self) -> None:
        """End the transaction well; raise as ``lend``."""
        await self._end(None)

    async def rollback(self) -> None:
        """Undo the transaction."""
        await self._end(UndoneError())

    async def close(self) -> None:
        """Undo what is open, and give the connection back."""
        await self._end(UndoneError())

    def cursor(self, name: str = "", **options: Any) -> Any:
        """Return a cursor of the transaction's connection; also just before that begins."""
        make = partial(self._cursor, name, options)
        return _LateCursor(make, name) if self.loan is None else make()

    def add_notice_handler(self, handler: NoticeHandler) -> None:
        """Have ``handler`` called with what the server says beside its answers."""
        self._handlers.append(handler)
        if self.loan is not None:
            self.loan.connection.add_notice_handler(handler)

    async def set_isolation_level(self, level: IsolationLevel | None) -> None:
        """Take ``level`` for the transactions that begin from now on."""
        self._isolation = level

    async def set_read_only(self, value: bool | None) -> None:  # noqa: FBT001 - the driver's shape
        """Read in the transactions that begin from now on."""
        self.read_only = value

    async def set_deferrable(self, value: bool | None) -> None:  # noqa: FBT001 - the driver's shape
        """Refuse: a deferrable transaction may wait for as long as others write."""
        if value:
            msg = "a routed connection has no deferrable transactions"
            raise psycopg.NotSupportedError(msg)

    async def set_autocommit(self, value: bool) -> None:  # noqa: FBT001 - the driver's shape
        """Refuse to commit each statement by itself: it would have no position."""
        if value:
            msg = "a routed connection has no AUTOCOMMIT: use an engine of your own for that"
            raise psycopg.NotSupportedError(msg)

    @property
    def info(self) -> psycopg.ConnectionInfo:
        """What is known of the transaction's connection."""
        return self._lent.info

    @property
    def adapters(self) -> Any:
        """How values are adapted, the driver's own way."""
        return self._lent.adapters

    @property
    def closed(self) -> bool:
        """Whether the transaction's connection is closed."""
        return self.loan is not None and self.loan.connection.closed

    @property
    def broken(self) -> bool:
        """Whether the transaction's connection was closed by something else than us."""
        return self.loan is not None and self.loan.connection.broken

    def _cursor(self, name: str, options: Mapping[str, Any]) -> Any:
        return self._lent.cursor(name, **options) if name else self._lent.cursor(**options)

    @property
    def _lent(self) -> Connection:
        if self.loan is None:
            msg = "no transaction is open, so there is no connection"
            raise psycopg.InterfaceError(msg)
        return self.loan.connection

    async def _end(self, error: UndoneError | None) -> None:
        loan, scope = self.loan, self._scope
        self.loan = self._scope = None
        if loan is None or scope is None:
            return
        for handler in self._handlers:
            loan.connection.remove_notice_handler(handler)
        await scope.__aexit__(type(error) if error else None, error, None)
