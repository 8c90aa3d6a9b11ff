from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row

from viral_engine.data.pools import Connection
from viral_engine.data.positions import after_commit
from viral_engine.errors import UnknownOutcomeError
from viral_engine.lsn import Lsn

__all__ = ["FAILED_BEFORE", "Commit", "commit", "commit_message"]

FAILED_BEFORE = "a statement of this transaction failed and its error was not passed on"

# The server's function that waits for a standby: what it warns of is a commit that nobody copied.
_WAIT_FOR_STANDBY = "SyncRepWaitForLSN"


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit that was acknowledged: where it lies in the log, and who else holds it.

    ``in_two_regions`` tells whether a synchronous standby was there when the commit had returned,
    and had applied what came before: standbys that are given up release commits without a word. Of
    one that wrote nothing it tells only whether a standby was there.
    """

    timeline: int
    start: Lsn
    end: Lsn
    in_two_regions: bool


def commit_message(statements: Mapping[str, bytes], *, guarded: bool) -> bytes:
    """Return what is sent to commit: the level before it, COMMIT, and the position after it.

    One message and so one round trip. ``guarded`` says that primacy is asked for as well, on the
    node itself and after the commit: whoever holds it then held it when the commit was made.
    """
    after = statements["after_commit_guarded" if guarded else "after_commit"]
    return b";".join((statements["before_commit"], b"commit", after))


async def commit(connection: Connection, message: bytes) -> Commit:
    """Commit the transaction of ``connection`` by a ``commit_message``.

    Raises UnknownOutcomeError where the server said that the wait for its standby was cancelled,
    where primacy had lapsed, or where anything but a refusal of the commit itself went wrong; then
    the commit may have happened. A refusal raises psycopg's error, and nothing was done.
    """
    _refuse_failed(connection)
    cursor = connection.cursor(row_factory=dict_row)
    try:
        with _warnings_of_the_wait(connection) as cancelled:
            await cursor.execute(message, prepare=False)
    except psycopg.Error as error:
        if _is_rolled_back(error):
            raise
        raise UnknownOutcomeError from error
    before = await cursor.fetchone()
    cursor.nextset()
    done = cursor.statusmessage
    cursor.nextset()
    after = await cursor.fetchone()
    if done != "COMMIT" or before is None or after is None:
        message_of_it = f"COMMIT was answered {done}: the transaction was rolled back"
        raise psycopg.errors.InFailedSqlTransaction(message_of_it)
    if cancelled:
        raise UnknownOutcomeError(
            "The write is done in this region; the wait for another region to have it was cancelled."
        )
    if "primacy_seconds" in after and not (after["primacy_seconds"] or 0) > 0:
        raise UnknownOutcomeError(
            "The write may have happened: its node could no longer prove that it is the primary."
        )
    return _commit_of(before, after)


def _commit_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> Commit:
    end = after_commit(after, synchronous_commit=before["synchronous_commit"])
    start = min(Lsn.parse(before["started"]), end.lsn)
    # A standby that is given up may still be listed for a moment; what it never applied tells.
    applied = after["applied_elsewhere"]
    elsewhere = applied is not None and (not before["wrote"] or Lsn.parse(applied) > start)
    return Commit(end.timeline, start, end.lsn, in_two_regions=elsewhere)


@contextmanager
def _warnings_of_the_wait(connection: Connection) -> Iterator[list[str]]:
    heard: list[str] = []

    def hear(notice: psycopg.errors.Diagnostic) -> None:
        if notice.source_function == _WAIT_FOR_STANDBY:
            heard.append(notice.message_primary or "")

    connection.add_notice_handler(hear)
    try:
        yield heard
    finally:
        connection.remove_notice_handler(hear)


def _refuse_failed(connection: Connection) -> None:
    # COMMIT would answer such a transaction as if all were well, and roll it back.
    if connection.info.transaction_status is TransactionStatus.INERROR:
        raise psycopg.errors.InFailedSqlTransaction(FAILED_BEFORE)


def _is_rolled_back(error: psycopg.Error) -> bool:
    if isinstance(error, psycopg.errors.IdleInTransactionSessionTimeout):
        return True  # ended before it heard of the commit
    # What a commit itself refuses: constraints, conflicts, and what triggers raise. Anything else
    # may come from the question after it.
    return error.sqlstate is not None and error.sqlstate.startswith(("23", "40", "P0"))
