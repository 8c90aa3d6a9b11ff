"""The calls that tell what happened to a machine, or wait until it has."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from viral_engine.errors import DeadlineError, NotFoundError, PlatformError
from viral_engine.fly.model import MachineState
from viral_engine.globe.api.answers import number
from viral_engine.globe.machines.record import EVENTS_KEPT, MachineRecord
from viral_engine.globe.platform import Platform

LONGEST_WAIT = 60
"""Seconds."""

SETTLED = ("started", "stopped", "suspended", "created", "failed")
WAITABLE = ("started", "stopped", "suspended", "destroyed", "failed", "settled")


class WaitCalls:
    """One method a call."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        """The paths below a machine's."""
        at = "/v1/apps/{app}/machines/{machine}"
        return [
            Route(f"{at}/wait", self.wait, methods=["GET"]),
            Route(f"{at}/events", self.events, methods=["GET"]),
        ]

    async def wait(self, request: Request) -> Response:
        """Wait for a state; 408 when it is not reached in time, 404 when it never can be."""
        query = request.query_params
        wanted = _wanted(query.getlist("state"))
        gone = self._platform.destroyed.get(request.path_params["machine"])
        if gone is not None and "destroyed" in wanted:
            return _told(gone)
        record = self._record(request)
        version = query.get("version") or query.get("instance_id")
        since = query.get("from_event_id")
        timeout = number(
            query.get("timeout"), "timeout", default=LONGEST_WAIT, least=0.05, most=LONGEST_WAIT
        )
        if not await self._platform.wait_for(
            lambda: _reached(record, wanted, version, since) or _is_gone(record), timeout=timeout
        ):
            raise DeadlineError(
                "deadline_exceeded: machine failed to reach desired state, "
                f"{','.join(wanted)}, currently {record.state}",
                status=408,
            )
        if _is_gone(record) and not _reached(record, wanted, version, since):
            raise NotFoundError(f"machine {record.id} was destroyed", status=404)
        return _told(record)

    async def events(self, request: Request) -> Response:
        """Show what happened to a machine, newest first."""
        asked = request.query_params.get("limit")
        limit = number(asked, "limit", default=20, least=1, most=EVENTS_KEPT)
        return JSONResponse(self._record(request).events[: int(limit)])

    def _record(self, request: Request) -> MachineRecord:
        path = request.path_params
        return self._platform.runner(path["app"], path["machine"]).record


def _wanted(asked: list[str]) -> list[str]:
    """The states that a wait names, one or more times; raises PlatformError (400)."""
    wanted = [state for part in asked for state in part.split(",")] or ["started"]
    for state in wanted:
        if state not in WAITABLE:
            raise PlatformError(f"state {state} cannot be waited for", status=400)
    return wanted


def _reached(
    record: MachineRecord, wanted: list[str], version: str | None, since: str | None
) -> bool:
    """Whether the machine is in such a state, or was in one after the event ``since``."""
    if version is not None and version != record.instance_id:
        # One that was replaced has stopped for good.
        was = any(one["version"] == version for one in record.versions())
        return was and "stopped" in wanted
    later: list[dict[str, Any]] = []
    if since:
        later = list(takewhile(lambda event: event["id"] != since, record.events))
    seen = {record.state.value, *(event["status"] for event in later)}
    return any(state in wanted or ("settled" in wanted and state in SETTLED) for state in seen)


def _is_gone(record: MachineRecord) -> bool:
    return record.state is MachineState.DESTROYED


def _told(record: MachineRecord) -> Response:
    """The answer: what the machine is now, and its newest event, from which the next wait goes on."""
    return JSONResponse({"ok": True, "event_id": record.events[0]["id"],
                         "state": record.state, "version": record.instance_id})  # fmt: skip
