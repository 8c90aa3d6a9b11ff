"""The calls that reach what runs inside a machine: signals and commands."""

from __future__ import annotations

import asyncio
import shlex

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from viral_engine.errors import ConflictError, DeadlineError, PlatformError
from viral_engine.fly.model import MachineState
from viral_engine.globe.api.answers import body_of, number, ok, signal_of
from viral_engine.globe.machines.process import MachineProcess
from viral_engine.globe.machines.runner import MachineRunner
from viral_engine.globe.platform import Platform

USUAL_EXEC, LONGEST_EXEC = 30, 3600
"""Seconds."""


class InsideCalls:
    """One method a call."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        """The paths below a machine's."""
        at = "/v1/apps/{app}/machines/{machine}"
        return [
            Route(f"{at}/signal", self.signal, methods=["POST"]),
            Route(f"{at}/exec", self.exec, methods=["POST"]),
        ]

    async def signal(self, request: Request) -> Response:
        """Send a signal to a machine's command."""
        process = self._running(request)
        process.signal(signal_of(str((await body_of(request)).get("signal") or "")))
        return ok()

    async def exec(self, request: Request) -> Response:
        """Run a command inside a machine; 408 when it takes longer than its timeout.

        It ends with its caller, too: nobody would know of it any more.
        """
        runner, body = self._runner(request), await body_of(request)
        command = body.get("command") or _split(body.get("cmd"))
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

    def _runner(self, request: Request) -> MachineRunner:
        return self._platform.runner(request.path_params["app"], request.path_params["machine"])

    def _running(self, request: Request) -> MachineProcess:
        runner = self._runner(request)
        process = runner.process
        if process is None or runner.record.state is MachineState.SUSPENDED:
            raise ConflictError("failed_precondition: machine is not running", status=412)
        return process


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


def _split(command: object) -> object:
    """A command in its old form, one text, as a list."""
    try:
        return shlex.split(command) if isinstance(command, str) else command
    except ValueError as exc:
        raise PlatformError(f"cmd cannot be read: {exc}", status=400) from exc


def _all_text(parts: list[object]) -> bool:
    return all(isinstance(part, str) for part in parts)
