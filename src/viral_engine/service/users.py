from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from viral_engine.data import Databases, read_statements
from viral_engine.data.versions import Expected
from viral_engine.service.audit_logs import AuditLogs
from viral_engine.service.changes import Conflicting, Connection, change_row, created_row
from viral_engine.service.cursor import Cursor
from viral_engine.service.ids import new_id
from viral_engine.service.pages import Page, read_page

__all__ = ["NotAllowed", "NotAllowedError", "User", "Users"]


class NotAllowed(StrEnum):
    """Why a user cannot be stored like this; the value is the constraint that says so."""

    EMAIL_TAKEN = "users_email"
    NO_ORGANIZATION = "users_organization"


class NotAllowedError(Exception):
    """A user that breaks a rule between rows; nothing was stored."""

    def __init__(self, why: NotAllowed) -> None:
        super().__init__(why.value)
        self.why = why


@dataclass(frozen=True, slots=True)
class User:
    """One user as it is stored; ``version`` grows with its changes, from 1."""

    id: UUID
    organization_id: UUID
    email: str
    display_name: str
    created_at: datetime
    updated_at: datetime
    version: int


class Users:
    """Stores and finds users; every change is in the audit log with it."""

    def __init__(self, databases: Databases, audit: AuditLogs) -> None:
        self._databases = databases
        self._audit = audit
        self._sql = read_statements("viral_engine.service", "queries/users.sql")

    async def create(self, *, organization_id: UUID, email: str, display_name: str) -> User:
        """Store a new user; raise NotAllowedError for a taken e-mail or an unknown organization."""
        values = {
            "id": new_id(),
            "organization_id": organization_id,
            "email": email,
            "display_name": display_name,
        }
        with _named():
            async with self._databases.writing() as connection:
                query = self._sql["create_user"]
                created = await created_row(connection, query, values, row=User)
                await self._record(connection, created, "created", list(values)[1:])
                return created

    async def get(self, user_id: UUID) -> User | None:
        """Return the user of that id, None where there is none."""
        found = await self._databases.select(
            self._sql["get_user"], {"id": user_id}, row_factory=class_row(User)
        )
        return found[0] if found else None

    async def page(self, *, after: Cursor | None, limit: int) -> Page[User]:
        """Return up to ``limit`` users (at most 200) that were created after the cursor's."""
        first, following = self._sql["list_users"], self._sql["list_users_after"]
        return await read_page(
            self._databases, first, following, row=User, after=after, limit=limit
        )

    async def update(
        self, user_id: UUID, *, email: str | None, display_name: str | None, expected: Expected
    ) -> User | Conflicting[User] | None:
        """Change what is given at an expected version; return the user, Conflicting, or None.

        Raises NotAllowedError when the e-mail is another user's.
        """
        given = {"email": email, "display_name": display_name}
        with _named():
            async with self._databases.writing() as connection:
                outcome = await change_row(
                    connection,
                    self._sql["update_user"],
                    self._sql["get_user"],
                    {"id": user_id, **given},
                    expected=expected,
                    row=User,
                )
                if isinstance(outcome, User):
                    changed = [name for name, value in given.items() if value is not None]
                    await self._record(connection, outcome, "changed", changed)
                return outcome

    async def _record(
        self, connection: Connection, user: User, action: str, fields: list[str]
    ) -> None:
        # Which fields, not their values: what is never removed should not hold anybody's address.
        await self._audit.record(
            connection,
            resource="users",
            row_id=user.id,
            action=action,
            details={"version": user.version, "fields": fields},
        )


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except psycopg.IntegrityError as error:
        if error.diag.constraint_name not in {one.value for one in NotAllowed}:
            raise
        raise NotAllowedError(NotAllowed(error.diag.constraint_name)) from error
