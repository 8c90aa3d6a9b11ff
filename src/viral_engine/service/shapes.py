from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from viral_engine.service.tasks import TaskStatus

__all__ = [
    "BasedOn",
    "Description",
    "Health",
    "NewTask",
    "Node",
    "Note",
    "Regions",
    "TaskChange",
    "TaskPage",
    "TaskShape",
    "Title",
]


def _without_nul(text: str) -> str:
    # PostgreSQL's text holds every character but this one.
    if "\x00" in text:
        msg = "must not hold the character U+0000"
        raise ValueError(msg)
    return text


Title = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(_without_nul),
]
Description = Annotated[str, StringConstraints(max_length=10_000), AfterValidator(_without_nul)]
Note = Annotated[str, StringConstraints(max_length=200), AfterValidator(_without_nul)]
BasedOn = Annotated[
    int | None,
    Field(ge=1, le=2**63 - 1, description="The version that this change is based on; 409 if older"),
]


class NewTask(BaseModel):
    """A task to be created."""

    model_config = ConfigDict(extra="forbid")

    title: Title
    description: Description = ""
    status: TaskStatus = TaskStatus.PENDING


class TaskChange(BaseModel):
    """What is to change of a task; what is absent stays as it is."""

    model_config = ConfigDict(extra="forbid")

    title: Title | None = None
    description: Description | None = None
    status: TaskStatus | None = None
    version: BasedOn = None

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.title is None and self.description is None and self.status is None:
            msg = "name at least one of title, description and status"
            raise ValueError(msg)
        return self


class TaskShape(BaseModel):
    """A task as it is answered."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    title: str
    description: str
    status: TaskStatus
    created_at: datetime
    updated_at: datetime
    version: int


class TaskPage(BaseModel):
    """Some tasks in the order of their creation; ``next`` is the ``after`` of the next page."""

    model_config = ConfigDict(from_attributes=True)

    items: list[TaskShape]
    next: str | None


class Health(BaseModel):
    """That a process serves, and which one."""

    status: str
    region: str
    machine: str
    version: str


class Node(BaseModel):
    """One region's database, as this machine sees it; ``lag_seconds`` is null where unknown."""

    region: str
    role: str
    reachable: bool
    lag_seconds: float | None
    timeline: int | None
    lsn: str | None
    observed_seconds_ago: float | None
    reason: str


class Regions(BaseModel):
    """Who is primary, every region's database, and which machine says so."""

    primary_region: str | None
    region: str
    machine: str
    nodes: list[Node]
