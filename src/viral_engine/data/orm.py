from __future__ import annotations

from functools import partial
from typing import Any

import psycopg
from sqlalchemy import Connection, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from viral_engine.data.databases import Databases
from viral_engine.data.orm_connection import LentConnection
from viral_engine.data.orm_errors import as_operational
from viral_engine.data.orm_loans import Purpose, lend
from viral_engine.errors import DatabaseError, ReplicaUnavailableError

__all__ = ["RoutedSessions", "routed_engine"]

_OPTION = "viral_purpose"


def routed_engine(databases: Databases, **options: Any) -> AsyncEngine:
    """Return an engine each of whose transactions is led to the node that its request asks for.

    In a request that reads it is read-only, at the node that the request's route names; in one that
    writes, and outside of requests, it is at the primary. COMMIT and the position travel in one
    message. The connections are those of ``databases``. Raises DatabaseError as these do; what a
    statement or a commit itself is refused for is SQLAlchemy's error, as ever.
    """
    connects = _Connects(databases)
    engine = create_async_engine(
        "postgresql+psycopg://",
        async_creator=connects.connect,
        poolclass=NullPool,
        use_native_hstore=False,
        **options,
    )
    event.listen(engine.sync_engine, "connect", connects.introduced)
    event.listen(engine.sync_engine, "begin", _begin)
    event.listen(engine.sync_engine, "handle_error", _translate)
    return engine


class RoutedSessions:
    """Makes sessions, as ``async_sessionmaker(engine)`` does, over a routed engine."""

    def __init__(self, engine: AsyncEngine, **options: Any) -> None:
        self.engine = engine
        self._options = options

    def __call__(self, **options: Any) -> AsyncSession:
        """Return a session that reads or writes as its request needs, outside of one writes."""
        return AsyncSession(self.engine, **{**self._options, **options})

    def reading(self, **options: Any) -> AsyncSession:
        """Return a session whose transactions are read-only, and near where the request allows."""
        return self._for(Purpose.READING, options)

    def writing(self, **options: Any) -> AsyncSession:
        """Return a session that writes at the primary, over the wire where it must."""
        return self._for(Purpose.WRITING, options)

    def _for(self, purpose: Purpose, options: dict[str, Any]) -> AsyncSession:
        engine = self.engine.execution_options(**{_OPTION: purpose})
        return AsyncSession(engine, **{**self._options, **options})


class _Connects:
    """Makes connections, and gives each a node until SQLAlchemy has learnt what the server is."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._server_is_known = False

    async def connect(self) -> LentConnection:
        lent = LentConnection(partial(lend, self._databases))
        if not self._server_is_known:
            # It asks on the first connection, before any transaction.
            try:
                await self._begin_anywhere(lent)
            except DatabaseError as error:
                raise as_operational(error) or error from error
        return lent

    async def _begin_anywhere(self, lent: LentConnection) -> None:
        try:
            await lent.begin(Purpose.READING)
        except ReplicaUnavailableError:
            # As long as no node was seen nobody is read; the primary has an address of its own.
            await lent.begin(Purpose.WRITING)

    def introduced(self, adapted: Any, _record: Any) -> None:
        self._server_is_known = True
        adapted.run_async(LentConnection.rollback)


def _begin(connection: Connection) -> None:
    purpose: Purpose | None = connection.get_execution_options().get(_OPTION)
    adapted: Any = connection.connection.dbapi_connection
    try:
        adapted.run_async(lambda lent: lent.begin(purpose))
    except DatabaseError as error:
        raise as_operational(error) or error from error


def _translate(context: ExceptionContext) -> Exception | None:
    error: BaseException = context.original_exception
    if isinstance(error, psycopg.Error) and context.connection is not None:
        lent = context.connection.connection.driver_connection
        loan = lent.loan if isinstance(lent, LentConnection) else None
        error = (loan and loan.meaning(error)) or error
    return as_operational(error)
