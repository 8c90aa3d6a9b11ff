"""What the globe adds to the platform's API: status, faults, logs, packets, the end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from viral_engine.globe.api.answers import body_of, ok
from viral_engine.globe.faults import Faults
from viral_engine.globe.logbook import LogBook, LogLine
from viral_engine.globe.machines.record import timestamp


@dataclass(frozen=True, slots=True)
class ExtensionCalls:
    """One method a call; everything it needs is handed in."""

    faults: Faults
    logs: LogBook
    status: Callable[[], dict[str, Any]]
    packets: Callable[[], Awaitable[list[list[object]]]]
    stop: Callable[[], None]

    def routes(self) -> list[Route]:
        """The paths below ``/v1/globe``."""
        return [
            Route("/v1/globe/status", self.show_status, methods=["GET"]),
            Route("/v1/globe/faults", self.list_faults, methods=["GET"]),
            Route("/v1/globe/faults", self.add_fault, methods=["POST"]),
            Route("/v1/globe/faults", self.clear_faults, methods=["DELETE"]),
            Route("/v1/globe/faults/{fault}", self.clear_fault, methods=["DELETE"]),
            Route("/v1/globe/packets", self.show_packets, methods=["GET"]),
            Route("/v1/globe/logs", self.show_logs, methods=["GET"]),
            Route("/v1/globe/shutdown", self.shut_down, methods=["POST"]),
        ]

    async def show_status(self, request: Request) -> Response:  # noqa: ARG002 - the shape of a call
        """Show what this globe is and what is broken in it on purpose."""
        return JSONResponse(self.status() | {"faults": self.faults.in_force()})

    async def list_faults(self, request: Request) -> Response:  # noqa: ARG002
        """List the faults in force."""
        return JSONResponse(self.faults.in_force())

    async def add_fault(self, request: Request) -> Response:
        """Put a fault in force."""
        return JSONResponse({"id": await self.faults.add(await body_of(request))}, status_code=201)

    async def clear_fault(self, request: Request) -> Response:
        """Undo a fault."""
        await self.faults.clear(request.path_params["fault"])
        return ok()

    async def clear_faults(self, request: Request) -> Response:  # noqa: ARG002
        """Undo all faults."""
        return JSONResponse({"cleared": await self.faults.clear_all()})

    async def show_packets(self, request: Request) -> Response:  # noqa: ARG002
        """Show what the network forwarded, lost and dropped."""
        return JSONResponse(await self.packets())

    async def show_logs(self, request: Request) -> Response:
        """Stream the lines of all machines as JSON, one a line."""
        query = request.query_params
        region, machine = query.get("region"), query.get("machine")

        def wanted(line: LogLine) -> bool:
            return region in (None, line.region) and machine in (None, line.machine)

        async def stream() -> AsyncIterator[str]:
            with self.logs.listening() as new_lines:
                began = timestamp()  # what is written from now on comes by listening, and only so
                for line in self.logs.history():
                    if wanted(line) and line.at <= began:
                        yield json.dumps(asdict(line)) + "\n"
                if query.get("follow") == "true":
                    async for line in new_lines:
                        if wanted(line) and line.at > began:
                            yield json.dumps(asdict(line)) + "\n"

        return StreamingResponse(stream(), media_type="application/x-ndjson")

    async def shut_down(self, request: Request) -> Response:  # noqa: ARG002
        """Begin the end of this globe."""
        self.stop()
        return ok()
