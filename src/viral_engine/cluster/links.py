from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

__all__ = ["answered_within", "break_off"]


def break_off(connection: psycopg.AsyncConnection[Any]) -> None:
    """End a connection at once, whatever its server does; whoever waits for it gets an error.

    One that is broken or closed already stays so.
    """
    # By a second descriptor: libpq keeps its own and sees the end of what it reads. It has none of a
    # connection that broke, and the system refuses one that the server has reset.
    with (
        suppress(psycopg.Error, OSError),
        socket.socket(fileno=os.dup(connection.pgconn.socket)) as same,
    ):
        same.shutdown(socket.SHUT_RDWR)


@contextmanager
def answered_within(connection: psycopg.AsyncConnection[Any], seconds: float) -> Iterator[None]:
    """Break the connection off where the block takes longer, and raise TimeoutError then.

    Not asyncio's timeout: what that interrupts, psycopg first asks the server to cancel, and waits
    10 s for one that is frozen.
    """
    is_late = False

    def give_up() -> None:
        nonlocal is_late
        is_late = True
        break_off(connection)

    limit = asyncio.get_running_loop().call_later(seconds, give_up)
    said = f"no answer in {seconds:.3g} s"
    try:
        yield
    except psycopg.OperationalError as error:
        if not is_late:
            raise
        raise TimeoutError(said) from error
    finally:
        limit.cancel()
    if is_late:  # it came in the moment when we gave up
        raise TimeoutError(said)
