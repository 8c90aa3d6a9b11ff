"""The machine calls of the API."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from viral_engine.errors import ConflictError, NotFoundError, PlatformError
from viral_engine.fly.durations import parse_duration
from viral_engine.fly.model import MachineConfig, MachineState, Service
from viral_engine.globe.api.answers import body_of, number, ok, signal_of
from viral_engine.globe.api.leases import LONGEST_TTL, nonce_of
from viral_engine.globe.leases import stripped
from viral_engine.globe.machines.record import MachineRecord
from viral_engine.globe.machines.runner import MachineRunner
from viral_engine.globe.platform import Platform

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")

NOT_IN_SUMMARY = ("config", "checks", "events", "host_status", "lease")
AUTOSTOP: dict[str, bool | str] = {"off": False, "stop": True, "suspend": "suspend"}
LONGEST_STOP = timedelta(seconds=300)


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
            Route(f"{one}/suspend", self.suspend, methods=["POST"]),
            Route(f"{one}/restart", self.restart, methods=["POST"]),
            Route(f"{one}/cordon", self.cordon, methods=["POST"]),
            Route(f"{one}/uncordon", self.uncordon, methods=["POST"]),
            Route(f"{one}/versions", self.versions, methods=["GET"]),
        ]

    async def list(self, request: Request) -> Response:
        """List the machines of an app, by region, state and metadata."""
        app, query = request.path_params["app"], request.query_params
        self._platform.app(app)
        records = self._platform.machines(app)
        if query.get("include_deleted") == "true":
            records += [r for r in self._platform.destroyed.values() if r.app == app]
        shown = [self._shown(record, request) for record in records if _matches(record, request)]
        if query.get("summary") == "true":
            shown = [{k: v for k, v in row.items() if k not in NOT_IN_SUMMARY} for row in shown]
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
        self._check_secrets(request, body)
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
        """Show a machine, or an old version of it, whose state is ``replaced`` for ever."""
        query, record = request.query_params, self._runner(request).record
        asked = query.get("version") or query.get("instance_id") or record.instance_id
        version = next((v for v in record.versions() if v["version"] == asked), None)
        if version is None:
            raise NotFoundError(f"version {asked} of machine {record.id} not found", status=404)
        shown = self._shown(record, request)
        if asked != record.instance_id:
            shown |= {"instance_id": asked, "version": asked, "config": version["user_config"],
                      "state": MachineState.REPLACED}  # fmt: skip
        return JSONResponse(shown)

    async def versions(self, request: Request) -> Response:
        """List the versions of a machine's configuration, newest first."""
        return JSONResponse(self._runner(request).record.versions())

    async def update(self, request: Request) -> Response:
        """Replace a machine's configuration; region and name stay."""
        runner, body = self._changing(request), await body_of(request)
        if body.get("region") not in (None, runner.record.region):
            raise PlatformError("a machine cannot change its region", status=422)
        self._check_secrets(request, body)
        config = _config(body.get("config") or {})
        self._platform.check_mounts(runner.record.app, runner.record.region, config, runner.record)
        await runner.update(
            config,
            launch=not body.get("skip_launch"),
            of_version=body.get("current_version"),
        )
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
        asked = signal_of(str(body.get("signal") or usual.signal))
        patience = _duration(body["timeout"]) if body.get("timeout") else usual.timeout
        runner.order_soon("stop", (asked.name, min(patience, LONGEST_STOP)))
        return ok()

    async def suspend(self, request: Request) -> Response:
        """Freeze a machine until it is started again; 412 for one that does not run."""
        await self._changing(request).order("suspend")
        return ok()

    async def restart(self, request: Request) -> Response:
        """Stop a machine, by the signal and within the time that are asked for, and start it."""
        runner, query = self._changing(request), request.query_params
        usual = runner.record.config.stop_config
        asked = query.get("timeout") or ""
        patience = (
            _duration(f"{asked}s" if asked.isdecimal() else asked) if asked else usual.timeout
        )
        name = "SIGKILL" if query.get("force_stop") == "true" else query.get("signal")
        number_ = signal_of(name or usual.signal)
        await runner.order("restart", (number_.name, min(patience, LONGEST_STOP)))
        return ok()

    async def cordon(self, request: Request) -> Response:
        """Take a machine out of the edges' reach."""
        return self._set_cordoned(request, cordoned=True)

    async def uncordon(self, request: Request) -> Response:
        """Let the edges reach a machine again."""
        return self._set_cordoned(request, cordoned=False)

    def _runner(self, request: Request) -> MachineRunner:
        return self._platform.runner(request.path_params["app"], request.path_params["machine"])

    def _changing(self, request: Request) -> MachineRunner:
        """As ``_runner``, for a change: raises LeaseHeldError while another holds the lease."""
        runner = self._runner(request)
        self._platform.leases.check(runner.record.id, nonce_of(request))
        return runner

    def _shown(self, record: MachineRecord, request: Request) -> dict[str, Any]:
        held = self._platform.leases.held(record.id)
        wanted = request.query_params.get("include_leases") == "true" and held is not None
        return record.to_wire() | ({"lease": stripped(held)} if wanted and held else {})

    def _check_secrets(self, request: Request, body: dict[str, Any]) -> None:
        """Raise ConflictError (412) for a version of the secrets that there never was."""
        here = self._platform.settings_of(request.path_params["app"]).version
        least = number(body.get("min_secrets_version"), "min_secrets_version",
                       default=0, least=0, most=2**63)  # fmt: skip
        if least > here:
            raise ConflictError(
                f"failed_precondition: the secrets are at version {here}, not {least:.0f}",
                status=412,
            )

    def _set_cordoned(self, request: Request, *, cordoned: bool) -> Response:
        record = self._changing(request).record
        record.cordoned = cordoned
        record.note("cordon" if cordoned else "uncordon", record.state.value, source="user")
        self._platform.changed()
        return ok()

    def _pick_region(self, asked: str) -> str:
        """The first region of a list that this globe has and that has room; ``any`` is all of them."""
        here = self._platform.network.plan.regions
        codes = [part.strip() for part in asked.split(",")]
        found = [one for code in codes for one in (here if code in ("any", "") else (code,))]
        found = [code for code in found if code in here]
        if not found:
            raise PlatformError(
                f"region {asked} is not one of this globe: {', '.join(here)}", status=422
            )
        return next((code for code in found if self._platform.has_room(code)), found[0])


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
    """A configuration that can be; raises ValidationError or PlatformError (400)."""
    config = MachineConfig.model_validate(wire)
    signal_of(config.stop_config.signal)
    services = tuple(_as_answered(service) for service in config.services)
    return config.model_copy(update={"services": services})


def _as_answered(service: Service) -> Service:
    """With ``autostop`` as the platform tells it: true and false for what is asked as stop and off."""
    asked = service.autostop
    if not isinstance(asked, str):
        return service
    if asked not in AUTOSTOP:
        raise PlatformError(f"autostop must be off, stop or suspend, not {asked!r}", status=400)
    return service.model_copy(update={"autostop": AUTOSTOP[asked]})


def _duration(value: object) -> timedelta:
    try:
        return parse_duration(value)
    except ValueError as exc:
        raise PlatformError(str(exc), status=400) from exc
