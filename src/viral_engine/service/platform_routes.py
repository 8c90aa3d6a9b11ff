from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from viral_engine import __version__
from viral_engine.clock import Clock
from viral_engine.cluster import NodeView
from viral_engine.observe.metrics import CONTENT_TYPE
from viral_engine.service.shapes import Health, Node, Regions
from viral_engine.web.runtime import Runtime

__all__ = ["platform_routes"]


def platform_routes(runtime: Runtime, clock: Clock) -> APIRouter:
    """Return the routes that tell about this process and the regions; none touches a database."""
    router = APIRouter(tags=["platform"])
    place, cluster = runtime.place, runtime.cluster

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """Give this process's figures as Prometheus reads them."""
        return PlainTextResponse(runtime.metrics.text(), media_type=CONTENT_TYPE)

    @router.get("/api/health")
    async def health() -> Health:
        """Tell that this process serves; databases may be away, and it still does."""
        return Health(status="ok", region=place.region, machine=place.machine, version=__version__)

    @router.get("/api/regions")
    async def regions() -> Regions:
        """Tell who is primary and how far every replica is behind, as this machine sees it."""
        view = cluster.view
        now = clock.monotonic()
        return Regions(
            primary_region=view.primary_region,
            region=place.region,
            machine=place.machine,
            nodes=[_node(node, now) for node in view.nodes],
        )

    return router


def _node(node: NodeView, now: float) -> Node:
    return Node(
        region=node.region,
        role=node.role.value,
        reachable=node.reachable,
        lag_seconds=node.lag_seconds,
        timeline=node.timeline,
        lsn=None if node.lsn is None else str(node.lsn),
        observed_seconds_ago=None if node.observed_at is None else round(now - node.observed_at, 3),
        reason=node.reason,
    )
