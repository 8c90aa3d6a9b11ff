from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter
from psycopg.rows import class_row
from pydantic import BaseModel, ConfigDict

from viral_engine.data import Databases, read_statements
from viral_engine.service.responses import problems

__all__ = ["Counts", "dashboard_routes", "read_counts"]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows each resource has, all at one moment of one database."""

    users: int
    organizations: int
    billing: int
    tasks: int
    metrics: int
    audit_logs: int


class CountsShape(BaseModel):
    """How many rows each resource has; ``billing`` counts accounts."""

    model_config = ConfigDict(from_attributes=True)

    users: int
    organizations: int
    billing: int
    tasks: int
    metrics: int
    audit_logs: int


class Dashboard(BaseModel):
    """What is in the database that answered, which may be a replica that is behind."""

    counts: CountsShape


async def read_counts(databases: Databases) -> Counts:
    """Count the rows of every resource in one statement; it reads all of them."""
    query = read_statements("viral_engine.service", "queries/dashboard.sql")["counts"]
    (counts,) = await databases.select(query, {}, row_factory=class_row(Counts))
    return counts


def dashboard_routes(databases: Databases) -> APIRouter:
    """Return the route /api/dashboard."""
    router = APIRouter(prefix="/api/dashboard", tags=["dashboards"])

    @router.get("", responses=problems(503))
    async def get_dashboard() -> Dashboard:
        """Count the rows of every resource, as near as they can be read."""
        return Dashboard(counts=CountsShape.model_validate(await read_counts(databases)))

    return router
