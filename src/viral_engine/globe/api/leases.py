"""The calls for leases and metadata of machines."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from viral_engine.errors import NotFoundError, PlatformError
from viral_engine.globe.api.answers import body_of, number, ok
from viral_engine.globe.leases import shown
from viral_engine.globe.machines.record import MachineRecord
from viral_engine.globe.platform import Platform

NONCE = "fly-machine-lease-nonce"
USUAL_TTL, LONGEST_TTL = 30, 3600
"""Seconds."""


class LeaseCalls:
    """One method a call."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        """The paths below a machine's."""
        at = "/v1/apps/{app}/machines/{machine}"
        return [
            Route(f"{at}/lease", self.show, methods=["GET"]),
            Route(f"{at}/lease", self.acquire, methods=["POST"]),
            Route(f"{at}/lease", self.release, methods=["DELETE"]),
            Route(f"{at}/metadata", self.list_metadata, methods=["GET"]),
            Route(f"{at}/metadata/{{key}}", self.get_metadata, methods=["GET"]),
            Route(f"{at}/metadata/{{key}}", self.set_metadata, methods=["POST"]),
            Route(f"{at}/metadata/{{key}}", self.delete_metadata, methods=["DELETE"]),
        ]

    async def show(self, request: Request) -> Response:
        """Show who holds the lease; 404 where nobody does."""
        machine = self._record(request).id
        held = self._platform.leases.held(machine)
        if held is None:
            raise NotFoundError(f"lease not found for machine {machine}", status=404)
        return JSONResponse(shown(held, nonce=False))

    async def acquire(self, request: Request) -> Response:
        """Take the lease or prolong it."""
        machine, body = self._record(request).id, await body_of(request)
        asked = request.query_params.get("ttl") or body.get("ttl")
        ttl = number(asked, "ttl", default=USUAL_TTL, least=0.01, most=LONGEST_TTL)
        held = self._platform.leases.acquire(
            machine, nonce_of(request), ttl=ttl, description=str(body.get("description") or "")
        )
        return JSONResponse(shown(held, nonce=True), status_code=201)

    async def release(self, request: Request) -> Response:
        """Give the lease back."""
        self._platform.leases.release(self._record(request).id, nonce_of(request))
        return ok()

    async def list_metadata(self, request: Request) -> Response:
        """Show the metadata."""
        return JSONResponse(self._record(request).config.metadata)

    async def get_metadata(self, request: Request) -> Response:
        """Show one value of the metadata."""
        return JSONResponse({"value": self._value(request)})

    async def set_metadata(self, request: Request) -> Response:
        """Set one value; a lease is not asked for, and the machine's version stays."""
        value = (await body_of(request)).get("value")
        if not isinstance(value, str):
            raise PlatformError("value must be text", status=400)
        self._keep(request, {request.path_params["key"]: value})
        return Response(status_code=204)

    async def delete_metadata(self, request: Request) -> Response:
        """Remove one value."""
        self._value(request)
        self._keep(request, {}, without=request.path_params["key"])
        return Response(status_code=204)

    def _keep(self, request: Request, more: dict[str, str], *, without: str = "") -> None:
        record = self._record(request)
        kept = {k: v for k, v in record.config.metadata.items() if k != without}
        record.config = record.config.model_copy(update={"metadata": kept | more})
        self._platform.changed()

    def _value(self, request: Request) -> str:
        key, metadata = request.path_params["key"], self._record(request).config.metadata
        if key not in metadata:
            raise NotFoundError(f"metadata {key} not found", status=404)
        return metadata[key]

    def _record(self, request: Request) -> MachineRecord:
        path = request.path_params
        return self._platform.runner(path["app"], path["machine"]).record


def nonce_of(request: Request) -> str:
    """The nonce that a call carries, empty for none."""
    return request.headers.get(NONCE, "")
