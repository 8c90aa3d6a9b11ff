"""The calls for leases and metadata of machines."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from viral_engine.errors import ConflictError, NotFoundError, PlatformError
from viral_engine.globe.api.answers import body_of, number
from viral_engine.globe.leases import Held, stripped
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
            Route(f"{at}/metadata", self.change_metadata, methods=["PUT", "PATCH"]),
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
        return JSONResponse(_success(self._shown(request, held)))

    async def acquire(self, request: Request) -> Response:
        """Take the lease or prolong it."""
        machine, body = self._record(request).id, await body_of(request)
        asked = request.query_params.get("ttl") or body.get("ttl")
        ttl = number(asked, "ttl", default=USUAL_TTL, least=0.01, most=LONGEST_TTL)
        held = self._platform.leases.acquire(
            machine, nonce_of(request), ttl=ttl, description=str(body.get("description") or "")
        )
        shown = self._shown(request, held) | {"nonce": held.nonce}
        return JSONResponse(_success(shown), status_code=201)

    async def release(self, request: Request) -> Response:
        """Give the lease back."""
        self._platform.leases.release(self._record(request).id, nonce_of(request))
        return JSONResponse(_success({"ok": True}))

    async def list_metadata(self, request: Request) -> Response:
        """Show the metadata."""
        return JSONResponse(self._record(request).config.metadata)

    async def change_metadata(self, request: Request) -> Response:
        """Set many values at once; null or empty text removes one; 412 for an older version."""
        body = await body_of(request)
        values = body.get("metadata")
        if not isinstance(values, dict) or not all(
            isinstance(value, str | None) for value in values.values()
        ):
            raise PlatformError("metadata must be an object of text", status=400)
        if body.get("machine_version") not in (None, self._record(request).instance_id):
            raise ConflictError("failed_precondition: machine version mismatch", status=412)
        gone = [key for key, value in values.items() if not value]
        self._keep(request, {k: v for k, v in values.items() if v}, without=gone)
        return Response(status_code=204)

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
        self._keep(request, {}, without=[request.path_params["key"]])
        return Response(status_code=204)

    def _keep(
        self, request: Request, more: dict[str, str], *, without: Collection[str] = ()
    ) -> None:
        record = self._record(request)
        kept = {k: v for k, v in record.config.metadata.items() if k not in without}
        record.config = record.config.model_copy(update={"metadata": kept | more})
        self._platform.changed()

    def _value(self, request: Request) -> str:
        key, metadata = request.path_params["key"], self._record(request).config.metadata
        if key not in metadata:
            raise NotFoundError(f"metadata {key} not found", status=404)
        return metadata[key]

    def _shown(self, request: Request, held: Held) -> dict[str, Any]:
        return stripped(held) | {"version": self._record(request).instance_id}

    def _record(self, request: Request) -> MachineRecord:
        path = request.path_params
        return self._platform.runner(path["app"], path["machine"]).record


def _success(data: dict[str, Any]) -> dict[str, Any]:
    return {"status": "success", "data": data}


def nonce_of(request: Request) -> str:
    """The nonce that a call carries, empty for none."""
    return request.headers.get(NONCE, "")
