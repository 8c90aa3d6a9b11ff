"""The client of the Machines API: one method a call."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import timedelta
from typing import Any

from viral_engine.errors import DeadlineError, NotFoundError
from viral_engine.fly.connection import Connection
from viral_engine.fly.model import (
    App,
    Event,
    ExecResult,
    Machine,
    MachineConfig,
    MachineState,
    Volume,
)

LONGEST_WAIT = timedelta(seconds=60)
"""The platform's own limit for one wait; longer ones are made of several."""

_STOP_TIMEOUT = 330.0
"""Seconds for calls that wait until a machine has stopped, which may take it 300."""


class FlyClient(Connection):
    """Apps, machines, volumes and regions of a platform; secrets and the like: AppSettings.

    ``only`` names the apps that it is for: the others of an organization are not listed then.
    """

    only: Collection[str] | None = None

    # apps

    async def create_app(self, name: str, *, org: str = "personal") -> None:
        """Make an app; raises PlatformError with status 422 when the name is taken."""
        await self.request("POST", "/apps", json={"app_name": name, "org_slug": org})

    async def get_app(self, name: str) -> App:
        """Look an app up; raises NotFoundError."""
        return App.model_validate(await self.request("GET", f"/apps/{name}"))

    async def list_apps(self, *, org: str = "personal") -> list[App]:
        """All apps of an organization; of those that this client is for, the ones that exist."""
        if self.only is not None:
            return [app for name in self.only if (app := await self._app_if_there(name))]
        found = await self.request("GET", "/apps", params={"org_slug": org})
        return [App.model_validate(item) for item in found["apps"]]

    async def _app_if_there(self, name: str) -> App | None:
        try:
            return await self.get_app(name)
        except NotFoundError:
            return None

    # machines

    async def list_machines(self, app: str, *, region: str | None = None) -> list[Machine]:
        """All machines of an app that are not destroyed."""
        params = {"region": region} if region else {}
        found = await self.request("GET", f"/apps/{app}/machines", params=params)
        return [Machine.model_validate(item) for item in found]

    async def get_machine(self, app: str, machine: str) -> Machine:
        """One machine; raises NotFoundError."""
        return Machine.model_validate(await self.request("GET", f"/apps/{app}/machines/{machine}"))

    async def create_machine(
        self,
        app: str,
        *,
        name: str,
        region: str,
        config: MachineConfig,
        launch: bool = True,
        registered: bool = True,
    ) -> Machine:
        """Make a machine and, unless ``launch`` is off, start it; returns before it runs.

        One that is not ``registered`` is born cordoned.
        """
        body: dict[str, Any] = {"name": name, "region": region, "config": config.to_wire()}
        if not launch:
            body["skip_launch"] = True
        if not registered:
            body["skip_service_registration"] = True
        return Machine.model_validate(
            await self.request("POST", f"/apps/{app}/machines", json=body)
        )

    async def update_machine(
        self, app: str, machine: str, config: MachineConfig, *, launch: bool = True
    ) -> Machine:
        """Replace the whole configuration; a machine that ran is restarted with it."""
        body = {"config": config.to_wire(), "skip_launch": not launch}
        return Machine.model_validate(
            await self.request(
                "POST", f"/apps/{app}/machines/{machine}", timeout=_STOP_TIMEOUT, json=body
            )
        )

    async def start_machine(self, app: str, machine: str) -> None:
        """Start a machine that does not run; returns before it runs."""
        await self.request("POST", f"/apps/{app}/machines/{machine}/start")

    async def stop_machine(
        self, app: str, machine: str, *, signal: str | None = None, timeout: str | None = None
    ) -> None:
        """Ask a machine to stop; returns before it has."""
        body = {k: v for k, v in (("signal", signal), ("timeout", timeout)) if v is not None}
        await self.request("POST", f"/apps/{app}/machines/{machine}/stop", json=body)

    async def restart_machine(self, app: str, machine: str) -> None:
        """Stop a machine and start it again."""
        await self.request("POST", f"/apps/{app}/machines/{machine}/restart", timeout=_STOP_TIMEOUT)

    async def signal_machine(self, app: str, machine: str, signal: str) -> None:
        """Send a signal to the machine's command."""
        path = f"/apps/{app}/machines/{machine}/signal"
        await self.request("POST", path, json={"signal": signal})

    async def cordon_machine(self, app: str, machine: str) -> None:
        """Take a machine out of the edges' reach; it runs on."""
        await self.request("POST", f"/apps/{app}/machines/{machine}/cordon")

    async def uncordon_machine(self, app: str, machine: str) -> None:
        """Let the edges reach a machine again."""
        await self.request("POST", f"/apps/{app}/machines/{machine}/uncordon")

    async def delete_machine(self, app: str, machine: str, *, force: bool = False) -> None:
        """Destroy a machine; one that runs only with ``force``."""
        params = {"force": "true"} if force else {}
        await self.request("DELETE", f"/apps/{app}/machines/{machine}", params=params)

    async def events(self, app: str, machine: str, *, limit: int = 20) -> list[Event]:
        """The newest events of a machine first, at most 50."""
        path = f"/apps/{app}/machines/{machine}/events"
        found = await self.request("GET", path, params={"limit": limit})
        return [Event.model_validate(item) for item in found]

    async def exec(
        self, app: str, machine: str, command: list[str], *, timeout: timedelta
    ) -> ExecResult:
        """Run a command inside a machine and wait for it, at most ``timeout``, in whole seconds."""
        seconds = math.ceil(timeout.total_seconds())
        answer = await self.request(
            "POST",
            f"/apps/{app}/machines/{machine}/exec",
            json={"command": command, "timeout": seconds},
            timeout=seconds + 10,
        )
        return ExecResult.model_validate(answer)

    async def wait_for(
        self,
        app: str,
        machine: str,
        state: MachineState,
        *,
        timeout: timedelta,
        version: str | None = None,
    ) -> None:
        """Wait until a machine is in a state; raises DeadlineError when it is not in time.

        Whether one has stopped has to be asked of a version, since old ones stopped with their
        update: of the one of now where none is named.
        """
        if state is MachineState.STOPPED and version is None:
            version = (await self.get_machine(app, machine)).instance_id
        asked = {"state": state.value} | ({"version": version} if version else {})
        left = timeout
        while True:
            step = min(left, LONGEST_WAIT)
            try:
                await self.request(
                    "GET",
                    f"/apps/{app}/machines/{machine}/wait",
                    params={**asked, "timeout": str(max(1, int(step.total_seconds())))},
                    timeout=step.total_seconds() + 10,
                )
            except DeadlineError:
                left -= step
                if left <= timedelta(0):
                    raise
            else:
                return

    # volumes and regions

    async def list_volumes(self, app: str) -> list[Volume]:
        """All volumes of an app."""
        found = await self.request("GET", f"/apps/{app}/volumes")
        return [Volume.model_validate(item) for item in found]

    async def create_volume(self, app: str, *, name: str, region: str, size_gb: int) -> Volume:
        """Make an empty volume in a region."""
        body = {"name": name, "region": region, "size_gb": size_gb, "encrypted": True}
        return Volume.model_validate(await self.request("POST", f"/apps/{app}/volumes", json=body))

    async def delete_volume(self, app: str, volume: str) -> None:
        """Destroy a volume and what is on it."""
        await self.request("DELETE", f"/apps/{app}/volumes/{volume}")

    async def regions(self) -> list[dict[str, Any]]:
        """The regions of the platform."""
        found = await self.request("GET", "/platform/regions")
        rows: list[dict[str, Any]] = found.get("regions") or found.get("Regions") or []
        return rows
