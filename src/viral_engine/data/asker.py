from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict
from psycopg.generators import execute

from viral_engine.cluster.addresses import LINK_OPTIONS
from viral_engine.cluster.links import answered_within
from viral_engine.errors import NodeGoneError

__all__ = ["SharedQuestion"]

T = TypeVar("T")

ANSWER_LIMIT_S = 2.0
_NAME = b"viral_question"


class SharedQuestion(Generic[T]):
    """Asks a node one question for all who wait for its answer; each gets one asked after it came.

    So a node is asked where it stands once for all requests that have just read from it, and never
    answers from before. It speaks libpq itself, on a connection of its own: a cursor with its own
    wait for each question would cost more than the reads that it follows.
    """

    def __init__(
        self, url: str, statement: bytes, parse: Callable[[pq.abc.PGresult], T], *, name: str
    ) -> None:
        self._parameters: dict[str, Any] = {
            **conninfo_to_dict(url),
            **LINK_OPTIONS,
            "application_name": name,
        }
        self._statement = statement
        self._parse = parse
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._socket = -1
        self._waiting: list[asyncio.Future[T]] = []
        self._asked: list[asyncio.Future[T]] = []
        self._is_busy = False
        self._limit: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._connecting:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        self._fail("the process stops")

    async def answer(self) -> T:
        """Return the answer to a question that is sent from now on.

        Raises NodeGoneError where the node does not answer within 2 s; 4 s more where it has to be
        connected to first.
        """
        loop = asyncio.get_running_loop()
        own: asyncio.Future[T] = loop.create_future()
        self._waiting.append(own)
        if not self._is_busy:
            self._is_busy = True
            # Soon, and not now: whoever finishes reading in this turn shares the question.
            loop.call_soon(self._ask)
        return await own

    def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        if self._asked:
            return  # whoever came since is asked for with the answer to it
        if not self._waiting:
            self._is_busy = False  # who wanted to know was told of a failure meanwhile
            return
        if self._connection is None:
            if self._connecting and not self._connecting.done():
                return  # it asks for all who wait then
            self._connecting = loop.create_task(self._connect(), name="connect to ask")
            return
        self._asked, self._waiting = self._waiting, []
        self._limit = loop.call_later(ANSWER_LIMIT_S, self._fail, "it did not answer in 2 s")
        try:
            pgconn = self._connection.pgconn
            pgconn.send_query_prepared(_NAME, None)
            pgconn.flush()
        except psycopg.Error as error:
            self._fail(str(error))

    async def _connect(self) -> None:
        connection = None
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                connection = await psycopg.AsyncConnection.connect(
                    **self._parameters, autocommit=True
                )
            with answered_within(connection, ANSWER_LIMIT_S):
                connection.pgconn.send_prepare(_NAME, self._statement)
                (prepared,) = await connection.wait(execute(connection.pgconn))
        except (psycopg.Error, OSError, TimeoutError) as error:
            if connection is not None:
                await connection.close()
            self._fail(str(error) or "it could not be reached in 2 s")
            return
        if prepared.status != pq.ExecStatus.COMMAND_OK:
            await connection.close()
            self._fail("it does not know the question")
            return
        self._connection = connection
        self._socket = connection.pgconn.socket
        asyncio.get_running_loop().add_reader(self._socket, self._heard)
        self._ask()

    def _heard(self) -> None:
        if self._connection is None:
            return
        if not self._asked:
            # Nobody asked: it says farewell, and its socket is closed by whoever reads that.
            self._fail("it ended the connection")
            return
        try:
            result = _whole_result(self._connection.pgconn)
            if result is None:
                return
            answer = self._parse(result)
        except (psycopg.Error, ValueError) as error:
            self._fail(str(error))
            return
        self._tell(lambda own: own.set_result(answer))
        if self._waiting:
            self._ask()
        else:
            self._is_busy = False

    def _tell(self, said: Callable[[asyncio.Future[T]], None]) -> None:
        if self._limit:
            self._limit.cancel()
        asked, self._asked = self._asked, []
        for own in asked:
            if not own.done():
                said(own)

    def _fail(self, reason: str) -> None:
        """Tell everybody who waits, and begin with a new connection the next time."""
        lines = reason.strip().splitlines() or ["no answer"]
        error = NodeGoneError(f"The database that was read says no more: {lines[0]}")
        self._asked, self._waiting = [*self._asked, *self._waiting], []
        self._is_busy = False
        self._tell(lambda own: own.set_exception(error))
        connection, self._connection = self._connection, None
        if connection is not None:
            # By the number it had, which libpq forgets of a socket that broke. Where somebody else
            # has that number by now the loop refuses, and there is nothing of ours to remove.
            with suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(self._socket)
            connection.pgconn.finish()


def _whole_result(pgconn: pq.abc.PGconn) -> pq.abc.PGresult | None:
    """Return what was answered, None while it is not all there; raise psycopg's error for a refusal."""
    pgconn.consume_input()
    if pgconn.is_busy():
        return None
    result = pgconn.get_result()
    if result is None:
        return None
    while pgconn.get_result() is not None:
        pass
    if result.status != pq.ExecStatus.TUPLES_OK:
        raise psycopg.OperationalError(result.error_message.decode(errors="replace"))
    return result
