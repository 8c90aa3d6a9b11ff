from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from psycopg.rows import class_row

from viral_engine.clock import SYSTEM_CLOCK, Clock
from viral_engine.data import Databases, read_statements
from viral_engine.service.cursor import Cursor

__all__ = ["Page", "Task", "TaskStatus", "Tasks", "new_task_id"]

MAX_PAGE = 200


class TaskStatus(StrEnum):
    """How far a task is."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Task:
    """One task as it is stored; ``version`` counts its changes from 1."""

    id: UUID
    title: str
    description: str
    status: TaskStatus
    created_at: datetime
    updated_at: datetime
    version: int


@dataclass(frozen=True, slots=True)
class Page:
    """Some tasks in the order of their creation, and where the next page starts (None: the end)."""

    items: Sequence[Task]
    next: Cursor | None


def new_task_id(clock: Clock = SYSTEM_CLOCK) -> UUID:
    """Return a UUID of version 7: its first 48 bits are the time in ms, the rest is random."""
    now_ms = int(clock.now().timestamp() * 1000) & (2**48 - 1)
    value = now_ms << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)


class Tasks:
    """Stores and finds tasks; every method is one statement in one transaction."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._sql = read_statements("viral_engine.service", "queries/tasks.sql")

    async def create(self, *, title: str, description: str, status: TaskStatus) -> Task:
        """Store a new task and return it."""
        values = {
            "id": new_task_id(),
            "title": title,
            "description": description,
            "status": status.value,
        }
        created = await self._write("create_task", values)
        if created is None:
            msg = "an insert returned no row"
            raise AssertionError(msg)
        return created

    async def get(self, task_id: UUID) -> Task | None:
        """Return the task of that id, None where there is none here (yet)."""
        found = await self._read("get_task", {"id": task_id})
        return found[0] if found else None

    async def page(self, *, after: Cursor | None, limit: int) -> Page:
        """Return up to ``limit`` tasks (at most 200) that were created after the cursor's."""
        # One more than asked tells whether there is a next page.
        values: dict[str, object] = {"limit": min(limit, MAX_PAGE) + 1}
        if after is None:
            found = await self._read("list_tasks", values)
        else:
            values |= {"created_at": after.created_at, "id": after.id}
            found = await self._read("list_tasks_after", values)
        items = found[:limit]
        more = len(found) > limit
        return Page(items, Cursor(items[-1].created_at, items[-1].id) if more else None)

    async def update(
        self,
        task_id: UUID,
        *,
        title: str | None = None,
        description: str | None = None,
        status: TaskStatus | None = None,
    ) -> Task | None:
        """Change what is given, count the version up and return the task; None where there is none."""
        values = {
            "id": task_id,
            "title": title,
            "description": description,
            "status": status and status.value,
        }
        return await self._write("update_task", values)

    async def _read(self, name: str, values: Mapping[str, object]) -> Sequence[Task]:
        return await self._databases.select(self._sql[name], values, row_factory=class_row(Task))

    async def _write(self, name: str, values: Mapping[str, object]) -> Task | None:
        async with self._databases.writing() as connection:
            cursor = connection.cursor(row_factory=class_row(Task))
            await cursor.execute(self._sql[name], values)
            return await cursor.fetchone()
