from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

from viral_engine.data import Databases
from viral_engine.data.hybrid_clock import HybridClock
from viral_engine.service.audit_log_routes import audit_log_routes
from viral_engine.service.audit_logs import AuditLogs
from viral_engine.service.billing import Billing
from viral_engine.service.billing_routes import billing_routes
from viral_engine.service.dashboard import dashboard_routes
from viral_engine.service.metric_routes import metric_routes
from viral_engine.service.metrics import Metrics
from viral_engine.service.organization_routes import organization_routes
from viral_engine.service.organizations import Organizations
from viral_engine.service.task_routes import task_routes
from viral_engine.service.tasks import Tasks
from viral_engine.service.user_routes import user_routes
from viral_engine.service.users import Users

__all__ = ["resource_routes"]


def resource_routes(databases: Databases, clock: HybridClock) -> Sequence[APIRouter]:
    """Return the routes of every resource, each under /api/ and the resource's name."""
    audit = AuditLogs(databases)
    return (
        organization_routes(Organizations(databases, audit)),
        user_routes(Users(databases, audit)),
        billing_routes(Billing(databases, audit)),
        task_routes(Tasks(databases)),
        metric_routes(Metrics(databases, clock)),
        audit_log_routes(audit),
        dashboard_routes(databases),
    )
