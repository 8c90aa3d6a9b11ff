from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from viral_engine.data import Databases, read_statements
from viral_engine.service.changes import Connection
from viral_engine.service.cursor import Cursor
from viral_engine.service.ids import new_id
from viral_engine.service.pages import Page, read_page

__all__ = ["AuditLog", "AuditLogs"]


@dataclass(frozen=True, slots=True)
class AuditLog:
    """One change: of which resource's row, what was done, and the version it led to."""

    id: UUID
    resource: str
    row_id: UUID
    action: str
    details: Mapping[str, Any]
    created_at: datetime


class AuditLogs:
    """Records changes and lists them; the table itself refuses that a record is changed."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._sql = read_statements("viral_engine.service", "queries/audit_logs.sql")

    async def record(
        self,
        connection: Connection,
        *,
        resource: str,
        row_id: UUID,
        action: str,
        details: Mapping[str, object],
    ) -> None:
        """Record a change in the transaction that makes it: both are committed, or neither."""
        values = {
            "id": new_id(),
            "resource": resource,
            "row_id": row_id,
            "action": action,
            "details": Jsonb(dict(details)),
        }
        await connection.execute(self._sql["record"], values)

    async def page(self, *, after: Cursor | None, limit: int) -> Page[AuditLog]:
        """Return up to ``limit`` records (at most 200) that were made after the cursor's."""
        first, following = self._sql["list_audit_logs"], self._sql["list_audit_logs_after"]
        return await read_page(
            self._databases, first, following, row=AuditLog, after=after, limit=limit
        )
