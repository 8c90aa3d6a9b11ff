"""The calls for apps, volumes and regions."""

from __future__ import annotations

import re
from datetime import datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from viral_engine.errors import ConflictError, NotFoundError, PlatformError
from viral_engine.fly.model import Volume
from viral_engine.globe.api.answers import body_of, number
from viral_engine.globe.platform import Platform
from viral_engine.topology.regions import all_regions

LARGEST_VOLUME_GB = 500
APP_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""It stands in paths, and in the names of the edges' own configuration."""


class AppCalls:
    """One method a call."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        """The paths below ``/v1``."""
        volumes = "/v1/apps/{app}/volumes"
        return [
            Route("/v1/apps", self.list, methods=["GET"]),
            Route("/v1/apps", self.create, methods=["POST"]),
            Route("/v1/apps/{app}", self.get, methods=["GET"]),
            Route("/v1/apps/{app}", self.delete, methods=["DELETE"]),
            Route(volumes, self.list_volumes, methods=["GET"]),
            Route(volumes, self.create_volume, methods=["POST"]),
            Route(f"{volumes}/{{volume}}", self.get_volume, methods=["GET"]),
            Route(f"{volumes}/{{volume}}", self.delete_volume, methods=["DELETE"]),
            Route("/v1/platform/regions", self.regions, methods=["GET"]),
        ]

    async def list(self, request: Request) -> Response:
        """List the apps; ``org_slug`` is required, as on Fly.io."""
        if not request.query_params.get("org_slug"):
            raise PlatformError("org_slug is required", status=400)
        apps = [self._shown(name) for name in self._platform.apps]
        return JSONResponse({"total_apps": len(apps), "apps": apps})

    async def create(self, request: Request) -> Response:
        """Make an app."""
        body = await body_of(request)
        name = str(body.get("app_name") or body.get("name") or "")
        if not name:
            raise PlatformError("app_name is required", status=400)
        if not APP_NAME.fullmatch(name):
            raise PlatformError(
                "Validation failed: Name may only contain letters, numbers, and dashes", status=422
            )
        self._platform.create_app(name)
        made = datetime.fromisoformat(self._platform.app(name)["created_at"])
        return JSONResponse(
            {"id": name, "created_at": int(made.timestamp() * 1000)}, status_code=201
        )

    async def get(self, request: Request) -> Response:
        """Show an app."""
        name = request.path_params["app"]
        self._platform.app(name)
        return JSONResponse(self._shown(name))

    async def delete(self, request: Request) -> Response:
        """Remove an app without machines."""
        self._platform.delete_app(request.path_params["app"])
        return Response(status_code=202)

    async def list_volumes(self, request: Request) -> Response:
        """List the volumes of an app."""
        app = request.path_params["app"]
        self._platform.app(app)
        rows = [self._volume(v) for owner, v in self._platform.volumes.values() if owner == app]
        return JSONResponse(rows)

    async def create_volume(self, request: Request) -> Response:
        """Make a volume."""
        body = await body_of(request)
        size = int(number(body.get("size_gb"), "size_gb", default=3, least=0, most=2**31))
        if not 1 <= size <= LARGEST_VOLUME_GB:
            raise PlatformError(f"size_gb must be 1 to {LARGEST_VOLUME_GB}", status=400)
        volume = self._platform.create_volume(
            request.path_params["app"],
            name=str(body.get("name") or "data"),
            region=str(body.get("region") or ""),
            size_gb=size,
        )
        return JSONResponse(self._volume(volume))

    async def get_volume(self, request: Request) -> Response:
        """Show a volume."""
        return JSONResponse(self._volume(self._find(request)))

    async def delete_volume(self, request: Request) -> Response:
        """Destroy a volume that no machine mounts."""
        volume = self._find(request)
        if (machine := self._platform.attached_to(volume.id)) is not None:
            raise ConflictError(f"volume {volume.id} is attached to {machine}", status=412)
        self._platform.delete_volume(volume.id)
        return JSONResponse(self._volume(volume) | {"state": "destroyed"})

    async def regions(self, request: Request) -> Response:  # noqa: ARG002 - the shape of a call
        """All regions of Fly.io; those of this globe have capacity."""
        here = self._platform.network.plan.regions
        rows = [
            {
                "code": region.code,
                "name": region.name,
                "latitude": region.latitude,
                "longitude": region.longitude,
                "gateway_available": region.gateway_available,
                "requires_paid_plan": False,
                "deprecated": False,
                "geo_region": region.geo_region,
                "capacity": 100 if region.code in here else 0,
            }
            for region in all_regions().values()
        ]
        return JSONResponse({"regions": rows, "nearest": here[0]})

    def _find(self, request: Request) -> Volume:
        owner, volume = self._platform.volumes.get(request.path_params["volume"], ("", None))
        if volume is None or owner != request.path_params["app"]:
            raise NotFoundError("volume not found", status=404)
        return volume

    def _volume(self, volume: Volume) -> dict[str, object]:
        attached = self._platform.attached_to(volume.id)
        return volume.to_wire() | {"attached_machine_id": attached}

    def _shown(self, name: str) -> dict[str, object]:
        volumes = [volume for owner, volume in self._platform.volumes.values() if owner == name]
        return {
            "id": name,
            "name": name,
            "status": "deployed" if self._platform.machines(name) else "pending",
            "machine_count": len(self._platform.machines(name)),
            "volume_count": len(volumes),
            "network": "default",
            "organization": {"slug": "personal", "name": "personal"},
        }
