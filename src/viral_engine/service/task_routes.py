from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, HTTPException, Query, Response
from fastapi.exceptions import RequestValidationError

from viral_engine.service.cursor import Cursor
from viral_engine.service.shapes import NewTask, TaskChange, TaskPage, TaskShape
from viral_engine.service.tasks import MAX_PAGE, Task, Tasks

__all__ = ["task_routes"]

PROBLEMS: dict[int | str, dict[str, object]] = {
    503: {"description": "No database can serve this at the moment; see retry-after."}
}
NOT_FOUND: dict[int | str, dict[str, object]] = {404: {"description": "There is no such task."}}


def task_routes(tasks: Tasks) -> APIRouter:
    """Return the routes under /api/tasks."""
    router = APIRouter(prefix="/api/tasks", tags=["tasks"], responses=PROBLEMS)

    @router.post("", status_code=201, response_model=TaskShape)
    async def create_task(new: NewTask, response: Response) -> Task:
        """Create a task; its address is in ``location``."""
        task = await tasks.create(title=new.title, description=new.description, status=new.status)
        response.headers["location"] = f"/api/tasks/{task.id}"
        return task

    @router.get("")
    async def list_tasks(
        after: Annotated[str | None, Query(description="`next` of the page before")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    ) -> TaskPage:
        """List tasks in the order of their creation, a page at a time."""
        page = await tasks.page(after=_cursor(after), limit=limit)
        return TaskPage(
            items=[TaskShape.model_validate(task) for task in page.items],
            next=None if page.next is None else page.next.encode(),
        )

    @router.get("/{task_id}", response_model=TaskShape, responses=NOT_FOUND)
    async def get_task(task_id: UUID) -> Task:
        """Return one task."""
        return _found(await tasks.get(task_id), task_id)

    @router.patch("/{task_id}", response_model=TaskShape, responses=NOT_FOUND)
    async def update_task(task_id: UUID, change: TaskChange) -> Task:
        """Change what is given of a task."""
        task = await tasks.update(
            task_id,
            title=change.title,
            description=change.description,
            status=change.status,
        )
        return _found(task, task_id)

    return router


def _found(task: Task | None, task_id: UUID) -> Task:
    if task is None:
        raise HTTPException(404, f"There is no task {task_id} here.")
    return task


def _cursor(text: str | None) -> Cursor | None:
    if text is None:
        return None
    try:
        return Cursor.decode(text)
    except ValueError as error:
        fault = {"loc": ("query", "after"), "msg": str(error), "type": "cursor"}
        raise RequestValidationError([fault]) from error
