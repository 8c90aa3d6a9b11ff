from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI

from viral_engine import __version__
from viral_engine.clock import SYSTEM_CLOCK
from viral_engine.cluster import ClusterWatcher, DatabaseAddresses
from viral_engine.data import Databases, TokenSigner
from viral_engine.observe.log import log_event
from viral_engine.service.platform_routes import platform_routes
from viral_engine.service.problems import answer_with_problems
from viral_engine.service.task_routes import task_routes
from viral_engine.service.tasks import Tasks
from viral_engine.topology.here import Here
from viral_engine.web import BodyLimit, RegionMiddleware, ReplaySigner
from viral_engine.web.asgi import App
from viral_engine.web.region import Place

if TYPE_CHECKING:
    app: App

__all__ = ["app", "create_app"]

BODY_LIMIT = 1024 * 1024


def create_app(environ: Mapping[str, str]) -> App:
    """Return the task service for the machine that ``environ`` describes.

    It starts, and answers /api/health, with no database at all. Raises MisuseError for an
    environment that contradicts itself.
    """
    here = Here.from_environ(environ)
    addresses = DatabaseAddresses.from_environ(environ, region=here.primary_region or here.region)
    cluster = ClusterWatcher(addresses.nodes, machine=here.machine_id, listener=log_event)
    databases = Databases(
        addresses, here=here.region, machine=here.machine_id, view=lambda: cluster.view
    )
    place = Place(region=here.region, machine=here.machine_id)

    @asynccontextmanager
    async def lifespan(_service: FastAPI) -> AsyncIterator[None]:
        async with cluster, databases:
            yield

    service = FastAPI(title="Viral Engine tasks", version=__version__, lifespan=lifespan)
    service.include_router(platform_routes(place, cluster, SYSTEM_CLOCK))
    service.include_router(task_routes(Tasks(databases)))
    answer_with_problems(service)
    # Outside the framework, so that its own error pages too say which machine answered.
    return RegionMiddleware(
        BodyLimit(service, limit=BODY_LIMIT),
        place=place,
        cluster=cluster,
        signer=ReplaySigner(environ.get("VIRAL_SECRET") or None),
        tokens=TokenSigner(
            environ.get("VIRAL_SECRET") or None, environ.get("VIRAL_SECRET_PREVIOUS") or None
        ),
    )


def __getattr__(name: str) -> App:
    # Built when a server asks for it, so that importing this module starts and reads nothing.
    if name != "app":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    built = create_app(os.environ)
    globals()["app"] = built
    return built
