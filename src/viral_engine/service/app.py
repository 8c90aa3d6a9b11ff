from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastapi import FastAPI

from viral_engine import __version__
from viral_engine.clock import SYSTEM_CLOCK
from viral_engine.data import HybridClock
from viral_engine.service.platform_routes import platform_routes
from viral_engine.service.problems import answer_with_problems
from viral_engine.service.resources import resource_routes
from viral_engine.web.asgi import App
from viral_engine.web.runtime import Runtime

if TYPE_CHECKING:
    app: App

__all__ = ["app", "create_app"]

BODY_LIMIT = 1024 * 1024
PROCESS_LOCAL = frozenset({"/api/health", "/metrics"})


def create_app(environ: Mapping[str, str]) -> App:
    """Return the task service for the machine that ``environ`` describes.

    It starts, and answers /api/health, with no database at all. Raises MisuseError for an
    environment that contradicts itself.
    """
    runtime = Runtime.from_environ(environ)
    service = FastAPI(title="Viral Engine tasks", version=__version__)
    service.include_router(platform_routes(runtime, SYSTEM_CLOCK))
    for router in resource_routes(runtime.databases, HybridClock(runtime.place.machine)):
        service.include_router(router)
    answer_with_problems(service)
    # Outside the framework, so that its own error pages too say which machine answered.
    return runtime.wrap(service, process_local=PROCESS_LOCAL, body_limit=BODY_LIMIT)


def __getattr__(name: str) -> App:
    # Built when a server asks for it, so that importing this module starts and reads nothing.
    if name != "app":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    built = create_app(os.environ)
    globals()["app"] = built
    return built
