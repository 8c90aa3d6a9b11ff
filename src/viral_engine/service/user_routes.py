from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

from viral_engine.data.versions import Expected
from viral_engine.service.pages import AfterQuery, LimitQuery, cursor_of
from viral_engine.service.preconditions import IfMatch, IfNoneMatch, answered, unless_unchanged
from viral_engine.service.problems import RefusedError
from viral_engine.service.responses import READ, TAGGED, UNCHANGED, WRITE, problems
from viral_engine.service.shapes import BasedOn, Title
from viral_engine.service.users import NotAllowed, NotAllowedError, User, Users

__all__ = ["user_routes"]

# One @ between two parts without spaces; whether anybody reads it only a letter can tell.
Email = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True,
        to_lower=True,
        min_length=3,
        max_length=254,
        pattern=r"^[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+$",
    ),
]


class NewUser(BaseModel):
    """A user to be created; the e-mail is kept in lower case, and nobody else may have it."""

    model_config = ConfigDict(extra="forbid")

    organization_id: UUID
    email: Email
    display_name: Title


class UserChange(BaseModel):
    """What is to change of a user; what is absent stays as it is."""

    model_config = ConfigDict(extra="forbid")

    email: Email | None = None
    display_name: Title | None = None
    version: BasedOn = None

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.email is None and self.display_name is None:
            msg = "name at least one of email and display_name"
            raise ValueError(msg)
        return self


class UserShape(BaseModel):
    """A user as it is answered."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    organization_id: UUID
    email: str
    display_name: str
    created_at: datetime
    updated_at: datetime
    version: int


class UserPage(BaseModel):
    """Some users in the order of their creation; ``next`` is the ``after`` of the next page."""

    items: list[UserShape]
    next: str | None


def user_routes(users: Users) -> APIRouter:
    """Return the routes under /api/users."""
    router = APIRouter(prefix="/api/users", tags=["users"])

    @router.post("", status_code=201, response_model=UserShape, responses={**WRITE, 201: TAGGED})
    async def create_user(new: NewUser, response: Response) -> User:
        """Create a user of an organization; its address is in ``location``."""
        with _refusing():
            created = await users.create(
                organization_id=new.organization_id,
                email=new.email,
                display_name=new.display_name,
            )
        response.headers["location"] = f"/api/users/{created.id}"
        return answered(created, response, shape=UserShape, missing="")

    @router.get("", responses=READ)
    async def list_users(after: AfterQuery = None, limit: LimitQuery = 50) -> UserPage:
        """List users in the order of their creation, a page at a time."""
        page = await users.page(after=cursor_of(after), limit=limit)
        items = [UserShape.model_validate(user) for user in page.items]
        return UserPage(items=items, next=page.next_text)

    @router.get(
        "/{user_id}",
        response_model=UserShape,
        responses={200: TAGGED, **UNCHANGED, **READ, **problems(404)},
    )
    async def get_user(
        user_id: UUID, response: Response, if_none_match: IfNoneMatch
    ) -> User | Response:
        """Return one user, with its version as ``etag``."""
        found = await users.get(user_id)
        user = answered(found, response, shape=UserShape, missing=_missing(user_id))
        return unless_unchanged(user, if_none_match)

    @router.patch(
        "/{user_id}",
        response_model=UserShape,
        responses={200: TAGGED, **WRITE, **problems(404, 412)},
    )
    async def update_user(
        user_id: UUID, change: UserChange, response: Response, if_match: IfMatch
    ) -> User:
        """Change what is given of a user, at the version that ``if-match`` or the body names."""
        with _refusing():
            outcome = await users.update(
                user_id,
                email=change.email,
                display_name=change.display_name,
                expected=Expected(if_match, change.version),
            )
        return answered(outcome, response, shape=UserShape, missing=_missing(user_id))

    return router


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except NotAllowedError as error:
        if error.why is NotAllowed.EMAIL_TAKEN:
            detail = "Another user has this e-mail address."
            raise RefusedError(409, code="email-taken", detail=detail) from error
        where = ("body", "organization_id")
        fault = {"loc": where, "msg": "there is no such organization", "type": "organization"}
        raise RequestValidationError([fault]) from error


def _missing(user_id: UUID) -> str:
    return f"There is no user {user_id} here."
