"""One task owns one machine: it alone starts, stops, updates and restarts it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from viral_engine.errors import ConflictError, NotFoundError, PlatformError
from viral_engine.fly.model import MachineConfig, MachineState
from viral_engine.globe.machines.checks import (
    WARNING,
    CheckResult,
    OpenSocket,
    checks_of,
    watch,
)
from viral_engine.globe.machines.process import Launch, MachineProcess
from viral_engine.globe.machines.record import (
    HOST_OK,
    MachineRecord,
    timestamp,
)
from viral_engine.globe.machines.restart import Again, Stay, after_exit


class Host(Protocol):
    """What a runner needs of the platform around it."""

    def launch_of(self, record: MachineRecord) -> Launch:
        """How to start the machine now."""

    def open_socket_in(self, region: str) -> OpenSocket:
        """Sockets of the machine's region, for its checks."""

    def hear(self, record: MachineRecord, line: str) -> None:
        """A line of the machine's output."""

    def changed(self) -> None:
        """Something of a machine is different now."""


@dataclass(eq=False, slots=True)
class MachineRunner:
    """Runs one machine from ``run()``; the other methods put an order into its queue."""

    record: MachineRecord
    host: Host
    _orders: asyncio.Queue[tuple[str, object, asyncio.Future[None] | None]] = field(
        default_factory=asyncio.Queue
    )
    _process: MachineProcess | None = None
    _checks: set[asyncio.Task[None]] = field(default_factory=set)
    _listeners: set[asyncio.Task[None]] = field(default_factory=set)
    _restarts: list[float] = field(default_factory=list)
    _updating: bool = False
    _ended: bool = False

    async def run(self) -> None:
        """Obey orders until the machine is destroyed; a cancelled runner kills its machine."""
        try:
            while self.record.state is not MachineState.DESTROYED:
                kind, what, done = await self._orders.get()
                failure: PlatformError | None = self._is_gone()  # where this is cancelled
                try:
                    await self._obey(kind, what)
                    self.host.changed()
                    failure = None
                except PlatformError as exc:
                    failure = exc
                except Exception as exc:  # noqa: BLE001 - an owner that dies leaves its machine to nobody
                    failure = self._failed(kind, exc)
                finally:
                    _answer(done, failure)
        finally:
            self._ended = True
            while not self._orders.empty():
                _answer(self._orders.get_nowait()[2], self._is_gone())
            await self._end_now()

    async def order(self, kind: str, what: object = None) -> None:
        """Have something done by the owner and wait until it was; raises PlatformError."""
        if self._ended:
            raise self._is_gone()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._orders.put_nowait((kind, what, done))
        await done

    async def update(
        self, config: MachineConfig, *, launch: bool, of_version: str | None = None
    ) -> None:
        """Replace the configuration, of that version only where one is named.

        Raises ConflictError (409) for another version, and while another update is under way.
        """
        if self._updating or of_version not in (None, self.record.instance_id):
            raise ConflictError(
                "aborted: machine update failed due to concurrent update", status=409
            )
        self._updating = True  # until its owner has done it, whoever asked may be gone by then
        await self.order("update", (config, launch))

    def order_soon(self, kind: str, what: object = None) -> None:
        """Have something done by the owner without waiting for it."""
        self._orders.put_nowait((kind, what, None))

    @property
    def process(self) -> MachineProcess | None:
        """The running process group, for exec and faults."""
        return self._process

    async def _obey(self, kind: str, what: object) -> None:
        match kind, what:
            case "start", str(source):
                await self._start(source)
            case "stop", (str(name), timedelta() as patience):
                await self._stop(signal.Signals[name], patience)
            case "update", (MachineConfig() as config, bool(launch)):
                try:
                    await self._update(config, launch=launch)
                finally:
                    self._updating = False
            case "suspend", _:
                self._suspend()
            case "restart", _:
                usual = self.record.config.stop_config
                name, patience = what if isinstance(what, tuple) else (usual.signal, usual.timeout)
                await self._stop(signal.Signals[name], patience)
                await self._start("user")
            case "destroy", _:
                await self._destroy(str(what or "user"))
            case "exited", (MachineProcess() as process, int(code)) if process is self._process:
                self._exited(code)
            case "again", str(version) if version == self.record.instance_id:
                await self._start_where_it_waits()
            case "host", str(status):
                await self._host_is(status)

    @property
    def _host_is_there(self) -> bool:
        return self.record.host_status == HOST_OK

    def _need_host(self) -> None:
        if not self._host_is_there:
            text = f"the host of machine {self.record.id} is unreachable"
            raise PlatformError(text, status=503)

    async def _host_is(self, status: str) -> None:
        """What runs on a host that is lost ends without a word, and begins again with the host."""
        self.record.host_status = status
        if self._host_is_there:
            await self._start_where_it_waits()
        elif self._process is not None:
            # No crash of its own, so that its restart policy has no say and counts nothing.
            self._process.kill()
            code = await self._process.wait()
            self._gone()
            self.record.state = MachineState.STARTING
            self.record.note("exit", "stopped", source="flyd",
                             exit_event=_exit_event(code, asked=False))  # fmt: skip
            self.host.hear(self.record, "its host is gone; starts again with it")

    async def _start_where_it_waits(self) -> None:
        waits = self.record.state is MachineState.STARTING and self._process is None
        if waits and self._host_is_there:
            await self._start("flyd")

    def _is_gone(self) -> PlatformError:
        return NotFoundError(f"machine {self.record.id} is gone", status=404)

    def _failed(self, kind: str, exc: Exception) -> PlatformError:
        """What to tell of an order that could not be carried out; a start ends as ``failed``."""
        said = f"the machine cannot {kind}: {exc}"
        if self.record.state is MachineState.STARTING and self._process is None:
            self.record.state = MachineState.FAILED
            self.record.note("launch", "failed", source="flyd", error=said)
        with contextlib.suppress(OSError):  # a full disk, say: then neither can be kept
            self.host.hear(self.record, said)
            self.host.changed()
        return PlatformError(said, status=500)

    async def _start(self, source: str) -> None:
        record = self.record
        if self._process is not None:
            if record.state is MachineState.SUSPENDED:
                self._resume(self._process, source)
            return
        self._need_host()
        record.state = MachineState.STARTING
        record.note("start", "starting", source=source)
        record.checks = {
            named.name: _check_row(named.name, CheckResult(WARNING, "not attempted yet"))
            for named in checks_of(record.config)
        }
        self.host.changed()
        self._process = await MachineProcess.start(self.host.launch_of(record))
        record.state = MachineState.STARTED
        record.note("start", "started", source="flyd")
        self._spawn(self._watch_process(self._process), self._listeners)
        self._begin_checks()

    def _begin_checks(self) -> None:
        record = self.record
        open_socket = self.host.open_socket_in(record.region)
        for named in checks_of(record.config):
            self._spawn(watch(named, record.private_ip, open_socket, self._tell), self._checks)

    def _suspend(self) -> None:
        record, process = self.record, self._process
        if process is None or record.state is not MachineState.STARTED:
            raise ConflictError(
                f"failed_precondition: unable to suspend machine from state: '{record.state}'",
                status=412,
            )
        process.pause()
        self._end_checks()
        record.state = MachineState.SUSPENDED
        record.note("suspend", "suspended", source="user")

    def _resume(self, process: MachineProcess, source: str) -> None:
        self.record.note("start", "starting", source=source)
        process.resume()
        self.record.state = MachineState.STARTED
        self.record.note("start", "started", source="flyd")
        self._begin_checks()

    async def _watch_process(self, process: MachineProcess) -> None:
        reading = asyncio.create_task(process.lines(lambda line: self.host.hear(self.record, line)))
        code = await process.wait()
        self.order_soon("exited", (process, code))
        # A child that was left behind may hold the pipe open: its last words are not waited for.
        await asyncio.wait({reading}, timeout=1)
        reading.cancel()

    def _tell(self, name: str, result: CheckResult) -> None:
        before = self.record.checks.get(name, {})
        self.record.checks[name] = _check_row(name, result)
        if before.get("status") != result.status:
            self.host.changed()

    def _exited(self, code: int) -> None:
        record = self.record
        self._gone()
        record.note("exit", "stopped", source="flyd", exit_event=_exit_event(code, asked=False),
                    restart_count=len(self._restarts))  # fmt: skip
        now = time.monotonic()
        match after_exit(record.config.restart, code=code, now=now, restarts=self._restarts):
            case Again(delay=delay):
                self._restarts.append(now)
                record.state = MachineState.STARTING
                self.host.hear(
                    record, f"exited with {code}; starts again in {delay.total_seconds():g} s"
                )
                asyncio.get_running_loop().call_later(
                    delay.total_seconds(), self.order_soon, "again", record.instance_id
                )
            case Stay(reason=reason):
                record.state = MachineState.STOPPED
                self.host.hear(record, f"exited with {code} and stays stopped: {reason}")
                if record.config.auto_destroy:
                    self.order_soon("destroy", "flyd")

    async def _stop(self, number: signal.Signals, patience: timedelta) -> None:
        record, process = self.record, self._process
        if process is None:
            if record.state is MachineState.STARTING:
                record.state = MachineState.STOPPED
            return
        record.state = MachineState.STOPPING
        record.note("stop", "stopping", source="user")
        self.host.changed()
        process.resume()
        process.signal(number)
        try:
            async with asyncio.timeout(patience.total_seconds()):
                code = await process.wait()
        except TimeoutError:
            process.kill()
            code = await process.wait()
        self._gone()
        record.state = MachineState.STOPPED
        record.note("exit", "stopped", source="flyd", exit_event=_exit_event(code, asked=True))

    async def _update(self, config: MachineConfig, *, launch: bool) -> None:
        self._need_host()
        ran = self._process is not None or self.record.state is MachineState.STARTING
        if ran:
            stop = self.record.config.stop_config
            await self._stop(signal.Signals[stop.signal], stop.timeout)
        self.record.replace_config(config)
        self._restarts.clear()
        self.record.note("update", self.record.state.value, source="user")
        if launch:
            await self._start("user")

    async def _destroy(self, source: str) -> None:
        self.record.state = MachineState.DESTROYING
        await self._end_now()
        self.record.state = MachineState.DESTROYED
        self.record.note("destroy", "destroyed", source=source)

    async def _end_now(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
        self._gone()

    def _gone(self) -> None:
        self._process = None
        self._end_checks()

    def _end_checks(self) -> None:
        for task in self._checks:
            task.cancel()
        self.record.checks = {}

    def _spawn(self, work: Coroutine[object, object, None], among: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(work)
        among.add(task)
        task.add_done_callback(among.discard)
        task.add_done_callback(self._report)

    def _report(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (exc := task.exception()) is not None:
            self.host.hear(self.record, f"the platform's own task failed: {exc!r}")


def _answer(done: asyncio.Future[None] | None, failure: PlatformError | None) -> None:
    if done is None or done.done():
        return
    if failure is None:
        done.set_result(None)
    else:
        done.set_exception(failure)


def _check_row(name: str, result: CheckResult) -> dict[str, str]:
    return {"name": name, "status": result.status, "output": result.output,
            "updated_at": timestamp()}  # fmt: skip


def _exit_event(code: int, *, asked: bool) -> dict[str, object]:
    return {"exit_code": code, "guest_exit_code": code, "requested_stop": asked,
            "oom_killed": False}  # fmt: skip
