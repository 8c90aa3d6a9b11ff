from __future__ import annotations

from datetime import datetime
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict

from viral_engine.data.versions import Expected
from viral_engine.service.organizations import Organization, Organizations
from viral_engine.service.pages import AfterQuery, LimitQuery, cursor_of
from viral_engine.service.preconditions import IfMatch, IfNoneMatch, answered, unless_unchanged
from viral_engine.service.responses import READ, TAGGED, UNCHANGED, WRITE, problems
from viral_engine.service.shapes import BasedOn, Title

__all__ = ["organization_routes"]


class NewOrganization(BaseModel):
    """An organization to be created."""

    model_config = ConfigDict(extra="forbid")

    name: Title


class OrganizationChange(BaseModel):
    """What is to change of an organization."""

    model_config = ConfigDict(extra="forbid")

    name: Title
    version: BasedOn = None


class OrganizationShape(BaseModel):
    """An organization as it is answered."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    created_at: datetime
    updated_at: datetime
    version: int


class OrganizationPage(BaseModel):
    """Some organizations in the order of their creation; ``next`` is the next page's ``after``."""

    items: list[OrganizationShape]
    next: str | None


def organization_routes(organizations: Organizations) -> APIRouter:
    """Return the routes under /api/organizations."""
    router = APIRouter(prefix="/api/organizations", tags=["organizations"])
    shape = OrganizationShape

    @router.post("", status_code=201, response_model=shape, responses={**WRITE, 201: TAGGED})
    async def create_organization(new: NewOrganization, response: Response) -> Organization:
        """Create an organization; its address is in ``location``."""
        created = await organizations.create(name=new.name)
        response.headers["location"] = f"/api/organizations/{created.id}"
        return answered(created, response, shape=shape, missing="")

    @router.get("", responses=READ)
    async def list_organizations(
        after: AfterQuery = None, limit: LimitQuery = 50
    ) -> OrganizationPage:
        """List organizations in the order of their creation, a page at a time."""
        page = await organizations.page(after=cursor_of(after), limit=limit)
        items = [shape.model_validate(organization) for organization in page.items]
        return OrganizationPage(items=items, next=page.next_text)

    @router.get(
        "/{organization_id}",
        response_model=shape,
        responses={200: TAGGED, **UNCHANGED, **READ, **problems(404)},
    )
    async def get_organization(
        organization_id: UUID, response: Response, if_none_match: IfNoneMatch
    ) -> Organization | Response:
        """Return one organization, with its version as ``etag``."""
        found = await organizations.get(organization_id)
        row = answered(found, response, shape=shape, missing=_missing(organization_id))
        return unless_unchanged(row, if_none_match)

    @router.patch(
        "/{organization_id}",
        response_model=shape,
        responses={200: TAGGED, **WRITE, **problems(404, 412)},
    )
    async def update_organization(
        organization_id: UUID, change: OrganizationChange, response: Response, if_match: IfMatch
    ) -> Organization:
        """Rename an organization, at the version that ``if-match`` or the body names."""
        outcome = await organizations.update(
            organization_id, name=change.name, expected=Expected(if_match, change.version)
        )
        return answered(outcome, response, shape=shape, missing=_missing(organization_id))

    return router


def _missing(organization_id: UUID) -> str:
    return f"There is no organization {organization_id} here."
