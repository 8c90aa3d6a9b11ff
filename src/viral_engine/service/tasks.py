from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from psycopg.rows import class_row

from viral_engine.data import Databases, read_statements
from viral_engine.data.versions import Expected
from viral_engine.service.changes import ANY_VERSION, Conflicting, change_row, created_row
from viral_engine.service.cursor import Cursor
from viral_engine.service.ids import new_id
from viral_engine.service.pages import Page, read_page

__all__ = ["Task", "TaskStatus", "Tasks"]


class TaskStatus(StrEnum):
    """How far a task is."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Task:
    """One task as it is stored; ``version`` grows with its changes, from 1."""

    id: UUID
    title: str
    description: str
    status: TaskStatus
    created_at: datetime
    updated_at: datetime
    version: int


class Tasks:
    """Stores and finds tasks; every method is one transaction."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._sql = read_statements("viral_engine.service", "queries/tasks.sql")

    async def create(self, *, title: str, description: str, status: TaskStatus) -> Task:
        """Store a new task and return it."""
        values = {
            "id": new_id(),
            "title": title,
            "description": description,
            "status": status.value,
        }
        async with self._databases.writing() as connection:
            return await created_row(connection, self._sql["create_task"], values, row=Task)

    async def get(self, task_id: UUID) -> Task | None:
        """Return the task of that id, None where there is none here (yet)."""
        query = self._sql["get_task"]
        found = await self._databases.select(query, {"id": task_id}, row_factory=class_row(Task))
        return found[0] if found else None

    async def page(self, *, after: Cursor | None, limit: int) -> Page[Task]:
        """Return up to ``limit`` tasks (at most 200) that were created after the cursor's."""
        first, following = self._sql["list_tasks"], self._sql["list_tasks_after"]
        return await read_page(
            self._databases, first, following, row=Task, after=after, limit=limit
        )

    async def update(
        self,
        task_id: UUID,
        *,
        title: str | None = None,
        description: str | None = None,
        status: TaskStatus | None = None,
        expected: Expected = ANY_VERSION,
    ) -> Task | Conflicting[Task] | None:
        """Change what is given of a task at an expected version, and count the version up.

        Returns what the task now is, or Conflicting; None where there is none.
        """
        values = {
            "id": task_id,
            "title": title,
            "description": description,
            "status": status and status.value,
        }
        async with self._databases.writing() as connection:
            return await change_row(
                connection,
                self._sql["update_task"],
                self._sql["get_task"],
                values,
                expected=expected,
                row=Task,
            )
