"""A machine's first process: codes and signals pass through it, and nothing outlives it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from tests.services.namespaces import require_namespaces, run_again_inside

from viral_engine.clock import wait_until
from viral_engine.globe.machines.process import LONGEST_LINE, Launch, MachineProcess

SOON = timedelta(seconds=10)
PYTHON = (sys.executable, "-I", "-S", "-c")
BOTH = [
    pytest.param(False, id="flat"),
    pytest.param(True, id="isolated", marks=pytest.mark.wan),
]


class Machines:
    """Starts machines in one mode and ends those that a test left."""

    def __init__(self, folder: Path, *, isolate: bool) -> None:
        self.folder = folder
        self.isolate = isolate
        self.marker = f"98765.{os.getpid()}{id(self) % 100_000:05}"
        self.said: list[str] = []
        self._started: list[MachineProcess] = []
        self._readers: list[asyncio.Task[None]] = []

    def launch(self, *argv: str, join: int | None = None) -> Launch:
        return Launch(argv=argv, env={"PATH": os.defpath}, cwd=self.folder, namespace=None,
                      isolate=self.isolate, join=join)  # fmt: skip

    async def start(self, *argv: str) -> MachineProcess:
        process = await MachineProcess.start(self.launch(*argv))
        self._started.append(process)
        self._readers.append(asyncio.create_task(process.lines(self.said.append)))
        return process

    async def says(self, pattern: str) -> str:
        def found() -> str | None:
            return next((line for line in self.said if re.search(pattern, line)), None)

        return await wait_until(found, timeout=SOON, waiting_for=f"a line like {pattern}")

    def alive(self) -> list[psutil.Process]:
        """Every process of this machine that sleeps with the test's marker."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.cmdline() == ["sleep", self.marker]:
                    found.append(process)
        return found

    async def are(self, count: int) -> None:
        """Return once so many live: what was forked last may not sleep yet."""
        await wait_until(
            lambda: len(self.alive()) == count, timeout=SOON, waiting_for=f"{count} to sleep"
        )

    async def gone(self) -> None:
        await wait_until(lambda: not self.alive(), timeout=SOON, waiting_for="its processes to end")

    async def end(self) -> None:
        for process in self._started:
            process.kill()
            async with asyncio.timeout(SOON.total_seconds()):
                await process.wait()
        async with asyncio.timeout(SOON.total_seconds()):
            await asyncio.gather(*self._readers)


@pytest.fixture(params=BOTH)
async def machines(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Machines]:
    if request.param:
        require_namespaces()
    made = Machines(tmp_path, isolate=request.param)
    yield made
    await made.end()


@pytest.fixture
async def isolated(tmp_path: Path) -> AsyncIterator[Machines]:
    require_namespaces()
    made = Machines(tmp_path, isolate=True)
    yield made
    await made.end()


async def ends_with(process: MachineProcess) -> int:
    async with asyncio.timeout(SOON.total_seconds()):
        return await process.wait()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("pass", 0),
        ("import sys;sys.exit(7)", 7),
        ("import os,signal;os.kill(os.getpid(),signal.SIGKILL)", 137),
        ("import os;os.abort()", 134),
    ],
)
async def test_the_exit_code_is_the_commands(machines: Machines, code: str, expected: int) -> None:
    # In a PID namespace the command is not the first process, so that a signal ends it as usual.
    assert await ends_with(await machines.start(*PYTHON, code)) == expected


@pytest.mark.parametrize("argv", [("no-such-command",), ("",), ("a\0b",), ()])
async def test_a_command_that_cannot_be_started_is_said_without_a_traceback(
    machines: Machines, argv: tuple[str, ...]
) -> None:
    assert await ends_with(await machines.start(*argv)) == 126
    await machines.says("cannot start")
    assert not any("Traceback" in line for line in machines.said)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGABRT", "SIGALRM", "SIGWINCH"])
async def test_a_signal_reaches_the_command_and_its_init_lives_on(
    machines: Machines, name: str
) -> None:
    code = (
        "import signal,sys,time\n"
        f"signal.signal(signal.{name},lambda *_:print('heard',flush=True))\n"
        "signal.signal(signal.SIGINT,lambda *_:sys.exit(5))\n"
        "print('up',flush=True)\n"
        "while True:time.sleep(0.01)"  # pause() would miss a signal in the moment before it
    )
    process = await machines.start(*PYTHON, code)
    await machines.says("up")
    process.signal(signal.Signals[name])
    await machines.says("heard")
    process.signal(signal.Signals.SIGINT)
    assert await ends_with(process) == 5


@pytest.mark.parametrize("name", ["SIGKILL", "SIGABRT", "SIGSEGV", "SIGTRAP"])
async def test_a_deadly_signal_leaves_nothing_of_the_machine(machines: Machines, name: str) -> None:
    process = await machines.start("sleep", machines.marker)
    await wait_until(lambda: bool(machines.alive()), timeout=SOON, waiting_for="the command to run")
    process.signal(signal.Signals[name])
    assert await ends_with(process) == 128 + signal.Signals[name]
    await machines.gone()


async def test_a_signal_in_the_very_first_moment_ends_the_machine_whole(machines: Machines) -> None:
    for wait_ms in range(0, 60, 6):
        process = await machines.start("sleep", machines.marker)
        await asyncio.sleep(wait_ms / 1000)  # not a wait: the moment that is tried
        process.signal(signal.Signals.SIGTERM)
        await ends_with(process)
        await machines.gone()


OF_THE_C_LIBRARY = 0b11 << 31
"""Signals 32 and 33: its own, which nobody else can set back once a parent ignored them."""


async def test_the_command_starts_with_default_signals(machines: Machines) -> None:
    process = await machines.start("grep", "-E", "SigIgn|SigBlk", "/proc/self/status")
    assert await ends_with(process) == 0
    await machines.says("SigIgn")
    ignored = [int(line.split()[1], 16) for line in machines.said]
    assert [signals & ~OF_THE_C_LIBRARY for signals in ignored] == [0, 0]


async def test_orphans_are_reaped_while_the_machine_runs(machines: Machines) -> None:
    code = (
        "import os,time,signal\n"
        "if os.fork()==0:\n"
        "  if os.fork()==0: time.sleep(0.1); os._exit(0)\n"
        "  os._exit(0)\n"
        "os.wait()\n"
        "print('up',flush=True)\n"
        "signal.pause()"
    )
    process = await machines.start(*PYTHON, code)
    await machines.says("up")

    def only_the_command() -> bool:
        below = psutil.Process(process.pid).children(recursive=True)
        return len(below) == (2 if machines.isolate else 1)

    await wait_until(only_the_command, timeout=SOON, waiting_for="the orphan to be reaped")
    process.kill()
    assert await ends_with(process) == 137


DAEMONS = (
    "import subprocess,sys,signal\n"
    "for _ in range(3): subprocess.Popen(['sleep',sys.argv[1]],start_new_session=True)\n"
    "subprocess.Popen(['sh','-c',f'sleep {sys.argv[1]} & exit'],start_new_session=True).wait()\n"
    "print('up',flush=True)\n"
)


@pytest.mark.parametrize("how", ["it ends by itself", "it is killed"])
async def test_nothing_is_left_when_a_machine_ends(machines: Machines, how: str) -> None:
    stay = "signal.pause()" if how == "it is killed" else "sys.stdin.close()"
    process = await machines.start(*PYTHON, DAEMONS + stay, machines.marker)
    await machines.says("up")
    if how == "it is killed":
        await machines.are(4)
        process.kill()
        process.kill()  # twice is harmless
    assert await ends_with(process) == (137 if how == "it is killed" else 0)
    assert machines.alive() == []


OWNER = """
import asyncio, json, sys
from pathlib import Path
from viral_engine.globe.machines.process import Launch, MachineProcess
async def main():
    launch = Launch(argv=tuple(sys.argv[3:]), env={"PATH": "/usr/bin:/bin"}, cwd=Path(sys.argv[2]),
                    namespace=None, isolate=sys.argv[1] == "True")
    process = await MachineProcess.start(launch)
    await process.lines(lambda line: print(line, flush=True))
asyncio.run(main())
"""


async def test_nothing_is_left_when_the_owner_is_killed(machines: Machines) -> None:
    command = [*PYTHON, DAEMONS + "signal.pause()", machines.marker]
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(machines.isolate), str(machines.folder), *command],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "up\n"
            await machines.are(4)
        finally:
            owner.kill()
    await machines.gone()


async def test_a_paused_machine_stands_still_and_goes_on(machines: Machines) -> None:
    code = "import time\nfor n in range(10**6):\n  print(n,flush=True);time.sleep(0.01)"
    process = await machines.start(*PYTHON, code)
    await machines.says("3")
    process.pause()

    def stopped() -> bool:
        leaf = psutil.Process(process.pid).children(recursive=True)[-1]
        return leaf.status() == psutil.STATUS_STOPPED

    await wait_until(stopped, timeout=SOON, waiting_for="the command to stop")
    process.resume()
    seen = len(machines.said)
    await wait_until(lambda: len(machines.said) > seen + 5, timeout=SOON, waiting_for="more lines")


@pytest.mark.parametrize("freeze", [MachineProcess.pause, lambda p: p.signal(signal.SIGSTOP)])
async def test_a_frozen_machine_can_be_killed(
    machines: Machines, freeze: Callable[[MachineProcess], None]
) -> None:
    process = await machines.start("sleep", machines.marker)
    await wait_until(lambda: bool(machines.alive()), timeout=SOON, waiting_for="the command to run")
    freeze(process)
    process.kill()
    assert await ends_with(process) == 137
    await machines.gone()


async def test_a_line_that_is_too_long_is_cut_and_the_next_is_whole(machines: Machines) -> None:
    code = "print('x'*300_000);print('next');print('y'*20_000+'z')"
    await ends_with(await machines.start(*PYTHON, code))
    await machines.says("next")
    await machines.says("^y")
    assert machines.said == ["x" * LONGEST_LINE, "next", "y" * LONGEST_LINE]


async def test_binary_output_is_heard_as_text(machines: Machines) -> None:
    code = r"import os;os.write(1,b'\xff\x00ok\n');os.write(1,b'no end')"
    await ends_with(await machines.start(*PYTHON, code))
    await machines.says("no end")
    assert machines.said == ["\ufffd\0ok", "no end"]


@pytest.mark.wan
async def test_an_isolated_machine_sees_only_itself_and_exec_enters_it(isolated: Machines) -> None:
    tell = "import os;print('ns',os.readlink('/proc/self/ns/pid'),os.getppid(),flush=True)\n"
    process = await isolated.start(*PYTHON, tell + "import signal;signal.pause()")
    await process.entered()
    line = await isolated.says("^ns")
    assert line.split()[1] != str(Path("/proc/self/ns/pid").readlink())
    assert line.split()[2] == "1"
    joined = isolated.launch("sh", "-c", "readlink /proc/self/ns/pid; ls /proc; cat /proc/1/cmdline",
                             join=process.first_process)  # fmt: skip
    inside = await MachineProcess.start(joined)
    out, err = await inside.output()
    assert (await ends_with(inside), err) == (0, "")
    assert out.splitlines()[0] == line.split()[1]
    numbers = [int(entry) for entry in out.split() if entry.isdigit()]
    assert 1 in numbers
    assert len(numbers) < 8  # its own processes, not this machine's


@pytest.mark.wan
async def test_exec_in_an_isolated_machine_ends_at_once_when_killed(isolated: Machines) -> None:
    process = await isolated.start("sleep", "4242")
    await process.entered()
    command = f"sleep {isolated.marker} & sleep {isolated.marker}; true"
    inside = await MachineProcess.start(
        isolated.launch("sh", "-c", command, join=process.first_process)
    )
    await wait_until(lambda: len(isolated.alive()) == 2, timeout=SOON, waiting_for="the command")
    inside.kill()
    assert await ends_with(inside) == 137
    await isolated.gone()
    assert psutil.pid_exists(process.pid)


@pytest.mark.wan
async def test_exec_fails_plainly_when_its_machine_is_gone(isolated: Machines) -> None:
    process = await isolated.start("sleep", "4242")
    await process.entered()
    first = process.first_process
    process.kill()
    await ends_with(process)
    inside = await MachineProcess.start(isolated.launch("true", join=first))
    _, err = await inside.output()
    assert (await ends_with(inside), err.startswith("cannot enter the machine")) == (126, True)


def test_the_isolated_half_holds_in_a_user_namespace_too() -> None:
    run_again_inside(__file__)
