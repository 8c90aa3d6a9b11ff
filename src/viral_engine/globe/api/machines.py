"""The machine calls of the API."""

from __future__ import annotations

import asyncio
import re
import signal
from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from viral_engine.errors import ConflictError, DeadlineError, NotFoundError, PlatformError
from viral_engine.fly.durations import parse_duration
from viral_engine.fly.model import MachineConfig, MachineState
from viral_engine.globe.api.answers import body_of, number, ok
from viral_engine.globe.api.leases import LONGEST_TTL, nonce_of
from viral_engine.globe.machines.process import MachineProcess
from viral_engine.globe.machines.record import EVENTS_KEPT, MachineRecord
from viral_engine.globe.machines.runner import MachineRunner
from viral_engine.globe.platform import Platform

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")

LONGEST_WAIT = 60
WAITABLE = ("started", "stopped", "destroyed", "failed", "settled")
SETTLED = (MachineState.STARTED, MachineState.STOPPED, MachineState.CREATED, MachineState.FAILED)
LONGEST_STOP = timedelta(seconds=300)
USUAL_EXEC, LONGEST_EXEC = 30, 3600
"""Seconds."""


class MachineCalls:
    """One method a call, named as the call."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        """The paths below ``/v1/apps/{app}``."""
        at = "/v1/apps/{app}/machines"
        one = f"{at}/{{machine}}"
        return [
            Route(at, self.list, methods=["GET"]),
            Route(at, self.create, methods=["POST"]),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.update, methods=["POST"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{one}/start", self.start, methods=["POST"]),
            Route(f"{one}/stop", self.stop, methods=["POST"]),
            Route(f"{one}/restart", self.restart, methods=["POST"]),
            Route(f"{one}/signal", self.signal, methods=["POST"]),
            Route(f"{one}/cordon", self.cordon, methods=["POST"]),
            Route(f"{one}/uncordon", self.uncordon, methods=["POST"]),
            Route(f"{one}/exec", self.exec, methods=["POST"]),
            Route(f"{one}/wait", self.wait, methods=["GET"]),
            Route(f"{one}/events", self.events, methods=["GET"]),
        ]

    async def list(self, request: Request) -> Response:
        """List the machines of an app, by region, state and metadata."""
        app = request.path_params["app"]
        self._platform.app(app)
        records = self._platform.machines(app)
        if "include_deleted" in request.query_params:
            records += [r for r in self._platform.destroyed.values() if r.app == app]
        shown = [record.to_wire() for record in records if _matches(record, request)]
        if request.query_params.get("summary") == "true":
            for row in shown:
                del row["config"]
        return JSONResponse(shown)

    async def create(self, request: Request) -> Response:
        """Make a machine."""
        body = await body_of(request)
        if "config" not in body:
            raise PlatformError("config is required", status=400)
        config = _config(body["config"])
        launch = not body.get("skip_launch")
        if launch:
            _runnable(config)
        record = await self._platform.create_machine(
            request.path_params["app"],
            name=_name(body),
            region=self._pick_region(str(body.get("region") or "")),
            config=config,
            launch=launch,
            registered=not body.get("skip_service_registration"),
        )
        shown = record.to_wire()
        if body.get("lease_ttl"):
            ttl = number(body["lease_ttl"], "lease_ttl", default=0, least=0.01, most=LONGEST_TTL)
            held = self._platform.leases.acquire(record.id, "", ttl=ttl, description="")
            shown["nonce"] = held.nonce
        return JSONResponse(shown)

    async def get(self, request: Request) -> Response:
        """Show a machine."""
        return JSONResponse(self._runner(request).record.to_wire())

    async def update(self, request: Request) -> Response:
        """Replace a machine's configuration; region and name stay."""
        runner, body = self._changing(request), await body_of(request)
        if body.get("region") not in (None, runner.record.region):
            raise PlatformError("a machine cannot change its region", status=422)
        if body.get("current_version") not in (None, runner.record.instance_id):
            raise ConflictError(
                "aborted: machine update failed due to concurrent update", status=409
            )
        config = _config(body.get("config") or {})
        self._platform.check_mounts(runner.record.app, runner.record.region, config, runner.record)
        await runner.order("update", (config, not body.get("skip_launch")))
        return JSONResponse(runner.record.to_wire())

    async def delete(self, request: Request) -> Response:
        """Destroy a machine."""
        query = request.query_params
        force = "true" in (query.get("force"), query.get("kill"))
        await self._platform.delete_machine(self._changing(request), force=force)
        return ok()

    async def start(self, request: Request) -> Response:
        """Start a machine; one that runs stays as it is."""
        runner = self._changing(request)
        before = runner.record.state
        _runnable(runner.record.config)
        if before is MachineState.REPLACING:
            raise ConflictError(
                "failed_precondition: machine getting replaced, refusing to start", status=412
            )
        await runner.order("start", "user")
        return JSONResponse({"previous_state": before, "migrated": False, "new_host": ""})

    async def stop(self, request: Request) -> Response:
        """Ask a machine to stop; the answer does not wait for it."""
        runner, body = self._changing(request), await body_of(request)
        usual = runner.record.config.stop_config
        asked = _signal(str(body.get("signal") or usual.signal))
        patience = _duration(body["timeout"]) if body.get("timeout") else usual.timeout
        runner.order_soon("stop", (asked.name, min(patience, LONGEST_STOP)))
        return ok()

    async def restart(self, request: Request) -> Response:
        """Stop a machine and start it again."""
        await self._changing(request).order("restart")
        return ok()

    async def signal(self, request: Request) -> Response:
        """Send a signal to a machine's command."""
        process = self._running(request)
        process.signal(_signal(str((await body_of(request)).get("signal") or "")))
        return ok()

    async def cordon(self, request: Request) -> Response:
        """Take a machine out of the edges' reach."""
        return self._set_cordoned(request, cordoned=True)

    async def uncordon(self, request: Request) -> Response:
        """Let the edges reach a machine again."""
        return self._set_cordoned(request, cordoned=False)

    async def exec(self, request: Request) -> Response:
        """Run a command inside a machine; 408 when it takes longer than its timeout.

        It ends with its caller, too: nobody would know of it any more.
        """
        runner, body = self._runner(request), await body_of(request)
        command = body.get("command") or body.get("cmd")
        if not isinstance(command, list) or not command or not _all_text(command):
            raise PlatformError("command must be a list of strings", status=400)
        timeout = number(
            body.get("timeout"), "timeout", default=USUAL_EXEC, least=0.05, most=LONGEST_EXEC
        )
        inside = self._running(request)
        await inside.entered()
        launch = self._platform.launch_inside(runner.record, tuple(command), inside)
        try:
            process = await MachineProcess.start(launch)
        except OSError as exc:
            raise PlatformError(f"the command cannot be run: {exc}", status=400) from exc
        try:
            async with asyncio.timeout(timeout):
                out, err = await _heard(request, process)
                code = await process.wait()
        except TimeoutError as exc:
            raise DeadlineError("deadline_exceeded: the command did not end", status=408) from exc
        finally:
            process.kill()
            await process.wait()
        return JSONResponse({"exit_code": code, "stdout": out, "stderr": err})

    async def wait(self, request: Request) -> Response:
        """Wait for a state; 408 when it is not reached in time, 404 when it never can be."""
        query = request.query_params
        wanted = [s for part in query.getlist("state") for s in part.split(",")] or ["started"]
        for state in wanted:
            if state not in WAITABLE:
                raise PlatformError(f"state {state} cannot be waited for", status=400)
        machine = request.path_params["machine"]
        if machine in self._platform.destroyed and "destroyed" in wanted:
            return ok()
        record = self._runner(request).record
        version = query.get("version") or query.get("instance_id")
        timeout = number(
            query.get("timeout"), "timeout", default=LONGEST_WAIT, least=0.05, most=LONGEST_WAIT
        )
        if not await self._platform.wait_for(
            lambda: _reached(record, wanted, version) or _is_gone(record), timeout=timeout
        ):
            raise DeadlineError(
                "deadline_exceeded: machine failed to reach desired state, "
                f"{','.join(wanted)}, currently {record.state}",
                status=408,
            )
        if _is_gone(record) and "destroyed" not in wanted:
            raise NotFoundError(f"machine {record.id} was destroyed", status=404)
        return JSONResponse({"ok": True, "state": record.state, "version": record.instance_id})

    async def events(self, request: Request) -> Response:
        """Show what happened to a machine, newest first."""
        asked = request.query_params.get("limit")
        limit = number(asked, "limit", default=20, least=1, most=EVENTS_KEPT)
        return JSONResponse(self._runner(request).record.events[: int(limit)])

    def _runner(self, request: Request) -> MachineRunner:
        return self._platform.runner(request.path_params["app"], request.path_params["machine"])

    def _changing(self, request: Request) -> MachineRunner:
        """As ``_runner``, for a change: raises LeaseHeldError while another holds the lease."""
        runner = self._runner(request)
        self._platform.leases.check(runner.record.id, nonce_of(request))
        return runner

    def _running(self, request: Request) -> MachineProcess:
        process = self._runner(request).process
        if process is None:
            raise ConflictError("failed_precondition: machine is not running", status=412)
        return process

    def _set_cordoned(self, request: Request, *, cordoned: bool) -> Response:
        record = self._changing(request).record
        record.cordoned = cordoned
        record.note("cordon" if cordoned else "uncordon", record.state.value, source="user")
        self._platform.changed()
        return ok()

    def _pick_region(self, asked: str) -> str:
        """The first region of a list that this globe has; ``any`` is its first region."""
        regions = self._platform.network.plan.regions
        for code in (part.strip() for part in asked.split(",")):
            if code in regions:
                return code
            if code in ("any", ""):
                return regions[0]
        raise PlatformError(
            f"region {asked} is not one of this globe: {', '.join(regions)}", status=422
        )


async def _heard(request: Request, process: MachineProcess) -> tuple[str, str]:
    """The output of a command, which is killed where its caller goes before its end."""
    output, gone = asyncio.create_task(process.output()), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({output, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not output.done():
            process.kill()
        return await output
    finally:
        output.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _name(body: dict[str, Any]) -> str:
    """The name that was asked for, empty for none; raises PlatformError (422) for a bad one."""
    name = body.get("name") or ""
    if not isinstance(name, str) or (name and NAME.fullmatch(name) is None):
        raise PlatformError(f"invalid machine name {name!r}", status=422)
    return name


def _runnable(config: MachineConfig) -> None:
    """Raise PlatformError (422) for a machine that has nothing to run: images are not run here."""
    init = config.init
    if not (init.exec or init.cmd or init.entrypoint):
        raise PlatformError("config.init has no command, and the globe runs no images", status=422)


def _is_gone(record: MachineRecord) -> bool:
    return record.state is MachineState.DESTROYED


def _reached(record: MachineRecord, wanted: list[str], version: str | None) -> bool:
    if version is not None and version != record.instance_id:
        return False
    return record.state.value in wanted or ("settled" in wanted and record.state in SETTLED)


def _matches(record: MachineRecord, request: Request) -> bool:
    query = request.query_params
    if query.get("region") not in (None, record.region):
        return False
    states = query.get("state")
    if states is not None and record.state.value not in states.split(","):
        return False
    return all(
        record.config.metadata.get(key.removeprefix("metadata.")) == value
        for key, value in query.items()
        if key.startswith("metadata.")
    )


def _config(wire: object) -> MachineConfig:
    """A configuration whose stop signal is one; raises ValidationError or PlatformError (400)."""
    config = MachineConfig.model_validate(wire)
    _signal(config.stop_config.signal)
    return config


def _duration(value: object) -> timedelta:
    try:
        return parse_duration(value)
    except ValueError as exc:
        raise PlatformError(str(exc), status=400) from exc


def _all_text(parts: list[object]) -> bool:
    return all(isinstance(part, str) for part in parts)


def _signal(name: str) -> signal.Signals:
    try:
        return signal.Signals[name.upper()]
    except KeyError as exc:
        raise PlatformError(f"{name or 'nothing'} is not a signal", status=400) from exc
