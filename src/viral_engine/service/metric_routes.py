from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field

from viral_engine.data.hybrid_clock import HybridTime
from viral_engine.errors import ClockAheadError
from viral_engine.service.metrics import Metric, Metrics
from viral_engine.service.pages import AfterQuery, LimitQuery, cursor_of
from viral_engine.service.problems import RefusedError
from viral_engine.service.responses import READ, WRITE, problems

__all__ = ["metric_routes"]

Name = Annotated[
    str, Path(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$", examples=["queue.depth"])
]


class Point(BaseModel):
    """A value of a gauge, and when it was measured; without ``at`` it is now."""

    model_config = ConfigDict(extra="forbid")

    value: Annotated[float, Field(allow_inf_nan=False)]
    at: Annotated[str | None, Field(max_length=200, examples=["0199a3b2c4d5-0001-lhr-1"])] = None


class MetricShape(BaseModel):
    """The newest point of a gauge; ``measured_at`` is the readable part of ``at``."""

    name: str
    value: float
    at: str
    measured_at: datetime
    created_at: datetime
    updated_at: datetime
    version: int


class WrittenShape(BaseModel):
    """Whether the point that was sent is the one that is stored, and which one is."""

    won: bool
    metric: MetricShape


class MetricPage(BaseModel):
    """Some metrics in the order of their first point; ``next`` is the ``after`` of the next page."""

    items: list[MetricShape]
    next: str | None


def metric_routes(metrics: Metrics) -> APIRouter:
    """Return the routes under /api/metrics."""
    router = APIRouter(prefix="/api/metrics", tags=["metrics"])

    @router.put("/{name}", responses=WRITE)
    async def put_metric(name: Name, point: Point) -> WrittenShape:
        """Set a gauge; of all points that are sent, in any order, the latest stays."""
        at = _time(point.at)
        try:
            written = await metrics.put(name, point.value, at=at)
        except ClockAheadError as error:
            if at is not None:
                raise _fault(str(error)) from error
            detail = f"{error} Nothing was stored. {error.suggestion}"
            raise RefusedError(409, code="clock-ahead", detail=detail) from error
        return WrittenShape(won=written.won, metric=_shape(written.metric))

    @router.get("", responses=READ)
    async def list_metrics(after: AfterQuery = None, limit: LimitQuery = 50) -> MetricPage:
        """List the newest point of each gauge, a page at a time."""
        page = await metrics.page(after=cursor_of(after), limit=limit)
        return MetricPage(items=[_shape(metric) for metric in page.items], next=page.next_text)

    @router.get("/{name}", responses={**READ, **problems(404)})
    async def get_metric(name: Name) -> MetricShape:
        """Return the newest point of one gauge."""
        metric = await metrics.get(name)
        if metric is None:
            raise HTTPException(404, f"There is no metric {name} here.")
        return _shape(metric)

    return router


def _shape(metric: Metric) -> MetricShape:
    return MetricShape(
        name=metric.name,
        value=metric.value,
        at=metric.at,
        measured_at=metric.time.wall,
        created_at=metric.created_at,
        updated_at=metric.updated_at,
        version=metric.version,
    )


def _time(text: str | None) -> HybridTime | None:
    if text is None:
        return None
    try:
        return HybridTime.parse(text)
    except ValueError as error:
        raise _fault(str(error)) from error


def _fault(message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("body", "at"), "msg": message, "type": "hybrid-time"}])
