from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from viral_engine.data.pools import Connection
from viral_engine.errors import NotInstalledError, UnknownOutcomeError

__all__ = ["FirstAnswer", "RequestKey", "claim", "keep"]


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What makes a request the same as an earlier one: its tenant's key.

    ``fingerprint`` is a digest of all that it asks, so that a key used for two things is noticed.
    """

    tenant: str
    text: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """What the first request of a key was answered; headers are pairs of name and value."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    fingerprint: bytes


async def claim(
    connection: Connection, statements: Mapping[str, bytes], key: RequestKey
) -> FirstAnswer | None:
    """Take ``key`` for the transaction of ``connection``; return the first answer where it is taken.

    Waits for a transaction that holds the key at the moment: it may yet be rolled back. Raises
    NotInstalledError where the table is not there, and UnknownOutcomeError where the key was taken
    and its answer not kept.
    """
    named: dict[str, Any] = {"tenant": key.tenant, "key": key.text, "fingerprint": key.fingerprint}
    try:
        await connection.execute(statements["forget_old"])
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
        raise NotInstalledError from error
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(statements["claim"], named)
    if await cursor.fetchone() is not None:
        return None
    await cursor.execute(statements["first_answer"], named)
    row = await cursor.fetchone()
    if row is None:
        # Forgotten between the two: the key is free again.
        return await claim(connection, statements, key)
    if row["status"] is None:
        raise UnknownOutcomeError(
            "The first request with this key was done; its answer is not known."
        )
    return FirstAnswer(
        status=row["status"],
        headers=[(name, value) for name, value in row["headers"] or ()],
        body=row["body"] or b"",
        fingerprint=row["fingerprint"],
    )


async def keep(
    connection: Connection, statements: Mapping[str, bytes], key: RequestKey, answer: FirstAnswer
) -> None:
    """Store the answer beside the effect, in the same transaction."""
    named = {
        "tenant": key.tenant,
        "key": key.text,
        "status": answer.status,
        "headers": Jsonb([list(pair) for pair in answer.headers]),
        "body": answer.body,
    }
    await connection.execute(statements["keep"], named)
