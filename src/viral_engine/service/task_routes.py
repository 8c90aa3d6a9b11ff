from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response

from viral_engine.data.versions import Expected
from viral_engine.service.pages import AfterQuery, LimitQuery, cursor_of
from viral_engine.service.preconditions import IfMatch, IfNoneMatch, answered, unless_unchanged
from viral_engine.service.responses import READ, TAGGED, UNCHANGED, WRITE, problems
from viral_engine.service.shapes import NewTask, TaskChange, TaskPage, TaskShape
from viral_engine.service.tasks import Task, Tasks

__all__ = ["task_routes"]


def task_routes(tasks: Tasks) -> APIRouter:
    """Return the routes under /api/tasks."""
    router = APIRouter(prefix="/api/tasks", tags=["tasks"])

    @router.post("", status_code=201, response_model=TaskShape, responses={**WRITE, 201: TAGGED})
    async def create_task(new: NewTask, response: Response) -> Task:
        """Create a task; its address is in ``location``."""
        task = await tasks.create(title=new.title, description=new.description, status=new.status)
        response.headers["location"] = f"/api/tasks/{task.id}"
        return answered(task, response, shape=TaskShape, missing="")

    @router.get("", responses=READ)
    async def list_tasks(after: AfterQuery = None, limit: LimitQuery = 50) -> TaskPage:
        """List tasks in the order of their creation, a page at a time."""
        page = await tasks.page(after=cursor_of(after), limit=limit)
        return TaskPage(
            items=[TaskShape.model_validate(task) for task in page.items], next=page.next_text
        )

    @router.get(
        "/{task_id}",
        response_model=TaskShape,
        responses={200: TAGGED, **UNCHANGED, **READ, **problems(404)},
    )
    async def get_task(
        task_id: UUID, response: Response, if_none_match: IfNoneMatch
    ) -> Task | Response:
        """Return one task, with its version as ``etag``."""
        found = await tasks.get(task_id)
        task = answered(found, response, shape=TaskShape, missing=_missing(task_id))
        return unless_unchanged(task, if_none_match)

    @router.patch(
        "/{task_id}",
        response_model=TaskShape,
        responses={200: TAGGED, **WRITE, **problems(404, 412)},
    )
    async def update_task(
        task_id: UUID, change: TaskChange, response: Response, if_match: IfMatch
    ) -> Task:
        """Change what is given of a task, at the version that ``if-match`` or the body names."""
        outcome = await tasks.update(
            task_id,
            title=change.title,
            description=change.description,
            status=change.status,
            expected=Expected(if_match, change.version),
        )
        return answered(outcome, response, shape=TaskShape, missing=_missing(task_id))

    return router


def _missing(task_id: UUID) -> str:
    return f"There is no task {task_id} here."
