from __future__ import annotations

import asyncio
import os
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.waiting import READY_R, WAIT_R, Ready, Wait

__all__ = ["AttentiveConnection"]

RV = TypeVar("RV")

LOOK_S = 0.1
"""Seconds after which psycopg's own wait takes over; as often as that looks by itself."""


class AttentiveConnection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """A connection whose socket stays registered with the event loop between its statements.

    psycopg registers it for each answer anew, with a timer beside it, which costs a quarter of what
    a short read costs. Here that is left to psycopg where an answer does not come in one piece
    within 0.1 s, and so is all else, cancellation too.
    """

    _descriptor: int | None = None
    _answer: asyncio.Future[None] | None = None
    _look: asyncio.TimerHandle | None = None

    async def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        """Consume a generator that operates on the connection, as psycopg's own does."""
        if args or kwargs:
            return await super().wait(gen, *args, **kwargs)
        socket = self.pgconn.socket  # raises where it is broken, before anything has begun
        try:
            asked = next(gen)
        except StopIteration as done:
            # It sees to it that others have their turn.
            return await super().wait(_done(done.value))
        try:
            if asked == WAIT_R:
                await self._readable(socket)
                asked = gen.send(READY_R)
        except StopIteration as done:
            value: RV = done.value
            return value
        except asyncio.CancelledError as error:
            # Once more for psycopg, which has the server stop before it lets it out.
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
                task.cancel(*error.args)
        except psycopg.Error:
            if self.closed:
                self._forget()
            raise
        except OSError:
            pass  # there is no second descriptor to be had, and psycopg needs none
        self._forget()  # two readers of one socket cannot be
        return await super().wait(_resumed(gen, asked))

    async def close(self) -> None:
        """Close the connection."""
        self._forget()
        await super().close()

    async def _readable(self, socket: int) -> None:
        """Return when there is something to read, or when it is time to look whether there is."""
        loop = asyncio.get_running_loop()
        if self._descriptor is None:
            # One of our own: libpq closes its own whenever it finds the connection broken, and the
            # number might be somebody else's before the loop is told.
            self._descriptor = os.dup(socket)
            loop.add_reader(self._descriptor, self._heard)
        if self._look is None:
            # Seldom: uvloop says only once, and not to those who wait later, that a socket broke.
            self._look = loop.call_later(LOOK_S, self._looks)
        self._answer = loop.create_future()
        try:
            await self._answer
        finally:
            self._answer = None

    def _looks(self) -> None:
        self._look = None
        if self._answer is not None:
            self._heard()

    def _heard(self) -> None:
        if self._answer is None:
            self._forget()  # nobody asked: a notice, or its farewell; whoever asks next hears it
        elif not self._answer.done():
            self._answer.set_result(None)

    def _forget(self) -> None:
        if self._look is not None:
            self._look.cancel()
        descriptor, self._descriptor, self._look = self._descriptor, None, None
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)


def _done(value: RV) -> Generator[Wait, Ready | int, RV]:
    """Be a generator that is over at once."""
    return value
    yield


def _resumed(gen: PQGen[RV], asked: Wait) -> Generator[Wait, Ready | int, RV]:
    """Go on with a generator that has asked for something already."""
    while True:
        ready = yield asked
        try:
            asked = gen.send(ready)
        except StopIteration as done:
            value: RV = done.value
            return value
