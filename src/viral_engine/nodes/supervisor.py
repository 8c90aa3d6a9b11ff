from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Self

from viral_engine.errors import MachineFailedError
from viral_engine.nodes import kernel
from viral_engine.nodes.log_lines import LogLines

__all__ = ["Program", "Supervisor", "restart_delay"]

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 5.0
CRASH_WINDOW_S = 60.0
CRASHES_ALLOWED = 5
LONGEST_LINE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Program:
    """An engine to run: ``hopeless`` maps what it may print to why no restart can help then."""

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str] = field(repr=False)
    stop_limit: timedelta
    hopeless: Mapping[str, str] = field(default_factory=dict)


def restart_delay(exits: Sequence[float], now: float) -> float | None:
    """Return the seconds until an engine that exited is started again, None to give up.

    ``exits`` are the times of its exits, the last one included. The first restart comes at once,
    as the lock of a primary does not wait; each next one in a minute waits twice as long. After
    the fifth in a minute the machine fails: only that way does the platform, and a person, see it.
    """
    recent = sum(now - moment < CRASH_WINDOW_S for moment in exits)
    if recent > CRASHES_ALLOWED:
        return None
    return min(FIRST_DELAY_S * float(2 ** max(recent - 1, 0)), LONGEST_DELAY_S)


class Supervisor:
    """Runs engines, restarts those that exit, and stops them in the reverse of their order.

    Ready when entered; leaving stops everything. Each line they print goes to standard output behind
    their name. It reaps every child of this process, so nothing else here may wait for children.
    """

    def __init__(self) -> None:
        self._lines = LogLines(sys.stdout.fileno())
        self._running: dict[int, asyncio.Future[int]] = {}
        self._kept: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        self._lines.__enter__()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in reversed(self._kept):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            loop.remove_signal_handler(number)
        self._lines.__exit__(kind, error, trace)

    def say(self, sentence: str) -> None:
        """Print a line of our own."""
        self._print("viral", sentence.encode())

    def start(self, program: Program) -> None:
        """Start an engine and keep it running from now on."""
        self.attend(self._keep(program))

    def attend(self, work: Coroutine[None, None, None]) -> None:
        """Do ``work`` beside the engines until the stop; what it raises fails the machine."""
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._note_end)
        self._kept.append(task)

    async def until_stopped(self) -> int:
        """Wait for SIGTERM or SIGINT and return 0.

        Raises MachineFailedError once an engine cannot be kept running.
        """
        await self._stop.wait()
        if self._failure is not None:
            raise self._failure
        return 0

    def _note_end(self, kept: asyncio.Task[None]) -> None:
        if not kept.cancelled() and (failure := kept.exception()) is not None:
            self._failure = failure
            self._stop.set()

    async def _keep(self, program: Program) -> None:
        exits: list[float] = []
        while True:
            code, reason = await self._run_once(program)
            exits.append(time.monotonic())
            if reason is not None:
                raise MachineFailedError(reason)
            delay = restart_delay(exits, time.monotonic())
            if delay is None:
                raise MachineFailedError(
                    f"{program.name} exited {len(exits)} times, last with code {code}",
                    suggestion="What it printed before is in the log of this machine.",
                )
            self.say(f"{program.name} exited with code {code}; starts again in {delay:g} s")
            await asyncio.sleep(delay)

    async def _run_once(self, program: Program) -> tuple[int, str | None]:
        reasons: list[str] = []

        def listen(line: bytes) -> None:
            text = line.decode(errors="replace")
            reasons.extend(why for mark, why in program.hopeless.items() if mark in text)
            self._print(program.name, line)

        process = self._spawn(program)
        ended = self._running[process.pid]
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_read_pipe(lambda: _Lines(listen), process.stdout)
            process.returncode = await asyncio.shield(ended)
        except asyncio.CancelledError:
            await self._end(program, process, ended)
            raise
        return process.returncode, next(iter(reasons), None)

    async def _end(
        self, program: Program, process: subprocess.Popen[bytes], ended: asyncio.Future[int]
    ) -> None:
        process.terminate()
        done, _ = await asyncio.wait((ended,), timeout=program.stop_limit.total_seconds())
        if not done:
            self.say(f"{program.name} did not stop in {program.stop_limit}: killed")
            process.kill()
        process.returncode = await ended

    def _spawn(self, program: Program) -> subprocess.Popen[bytes]:
        parent = os.getpid()
        process = subprocess.Popen(
            program.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(program.environ),
            # Safe after fork: it makes two system calls and takes no lock.
            preexec_fn=lambda: kernel.die_with_parent(parent),  # noqa: PLW1509
        )
        self._running[process.pid] = asyncio.get_running_loop().create_future()
        return process

    def _reap(self) -> None:
        # Everything, not only our own: orphans of the family are adopted by this process.
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            ended = self._running.pop(pid, None)
            if ended is not None and not ended.done():
                ended.set_result(os.waitstatus_to_exitcode(status))

    def _print(self, name: str, line: bytes) -> None:
        self._lines.add(b"%s | %s" % (name.encode(), line))


class _Lines(asyncio.Protocol):
    """Cuts what arrives into lines; a line beyond 64 KiB is cut in pieces."""

    def __init__(self, listen: Callable[[bytes], None]) -> None:
        self._listen = listen
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._listen(line)
        if len(self._rest) > LONGEST_LINE:
            self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._flush()

    def _flush(self) -> None:
        if self._rest:
            self._listen(self._rest)
            self._rest = b""
