from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from viral_engine.service.audit_logs import AuditLogs
from viral_engine.service.pages import AfterQuery, LimitQuery, cursor_of
from viral_engine.service.responses import READ

__all__ = ["audit_log_routes"]


class AuditLogShape(BaseModel):
    """One change of a user, an organization or an account, as it is answered."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    resource: str
    row_id: UUID
    action: str
    details: dict[str, Any]
    created_at: datetime


class AuditLogPage(BaseModel):
    """Some changes in their order; ``next`` is the ``after`` of the next page."""

    items: list[AuditLogShape]
    next: str | None


def audit_log_routes(audit: AuditLogs) -> APIRouter:
    """Return the routes under /api/audit_logs; nothing but the service itself writes there."""
    router = APIRouter(prefix="/api/audit_logs", tags=["audit_logs"])

    @router.get("", responses=READ)
    async def list_audit_logs(after: AfterQuery = None, limit: LimitQuery = 50) -> AuditLogPage:
        """List what was changed of users, organizations and billing, the oldest first."""
        page = await audit.page(after=cursor_of(after), limit=limit)
        items = [AuditLogShape.model_validate(record) for record in page.items]
        return AuditLogPage(items=items, next=page.next_text)

    return router
