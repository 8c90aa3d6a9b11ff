from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from viral_engine.data import Databases, read_statements
from viral_engine.data.versions import Expected
from viral_engine.service.audit_logs import AuditLogs
from viral_engine.service.changes import Conflicting, Connection, change_row, created_row
from viral_engine.service.cursor import Cursor
from viral_engine.service.ids import new_id
from viral_engine.service.pages import Page, read_page

__all__ = ["Organization", "Organizations"]


@dataclass(frozen=True, slots=True)
class Organization:
    """One organization as it is stored; ``version`` grows with its changes, from 1."""

    id: UUID
    name: str
    created_at: datetime
    updated_at: datetime
    version: int


class Organizations:
    """Stores and finds organizations; every change is in the audit log with it."""

    def __init__(self, databases: Databases, audit: AuditLogs) -> None:
        self._databases = databases
        self._audit = audit
        self._sql = read_statements("viral_engine.service", "queries/organizations.sql")

    async def create(self, *, name: str) -> Organization:
        """Store a new organization and return it."""
        values = {"id": new_id(), "name": name}
        async with self._databases.writing() as connection:
            query = self._sql["create_organization"]
            created = await created_row(connection, query, values, row=Organization)
            await self._record(connection, created, "created")
            return created

    async def get(self, organization_id: UUID) -> Organization | None:
        """Return the organization of that id, None where there is none."""
        found = await self._databases.select(
            self._sql["get_organization"],
            {"id": organization_id},
            row_factory=class_row(Organization),
        )
        return found[0] if found else None

    async def page(self, *, after: Cursor | None, limit: int) -> Page[Organization]:
        """Return up to ``limit`` organizations (at most 200) created after the cursor's."""
        first, following = self._sql["list_organizations"], self._sql["list_organizations_after"]
        return await read_page(
            self._databases, first, following, row=Organization, after=after, limit=limit
        )

    async def update(
        self, organization_id: UUID, *, name: str, expected: Expected
    ) -> Organization | Conflicting[Organization] | None:
        """Rename it at an expected version; return what it now is, Conflicting, or None."""
        async with self._databases.writing() as connection:
            outcome = await change_row(
                connection,
                self._sql["update_organization"],
                self._sql["get_organization"],
                {"id": organization_id, "name": name},
                expected=expected,
                row=Organization,
            )
            if isinstance(outcome, Organization):
                await self._record(connection, outcome, "changed")
            return outcome

    async def _record(self, connection: Connection, row: Organization, action: str) -> None:
        await self._audit.record(
            connection,
            resource="organizations",
            row_id=row.id,
            action=action,
            details={"version": row.version, "name": row.name},
        )
