"""One running machine as a group of processes: start it, signal it, end it, hear its lines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from signal import Signals
from typing import Self

import psutil

from viral_engine.clock import wait_until
from viral_engine.errors import WaitTimeoutError

INIT = Path(__file__).with_name("init.py")
"""The program that every machine starts with."""

ENTERED_WITHIN = timedelta(seconds=5)

LONGEST_LINE = 16_384
"""Characters of one log line that are kept; the rest of it is cut off."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run and where; ``join`` is the first process of a machine to enter."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    namespace: int | None
    isolate: bool
    join: int | None = None
    names: Path | None = None
    """A folder with the files of /etc that the machine sees; only where it is isolated."""


class MachineProcess:
    """A command under its init; nothing of it outlives this object's owner."""

    def __init__(self, inner: asyncio.subprocess.Process, launch: Launch, alive: int) -> None:
        self._process = inner
        self._launch = launch
        self._alive = alive
        self._killed = False

    @classmethod
    async def start(cls, launch: Launch, *, capture: bool = True) -> Self:
        """Start the command; ``capture`` off leaves its output to the owner's own."""
        parent_gone, alive = os.pipe()
        spec = {
            "argv": launch.argv,
            "cwd": str(launch.cwd),
            "network": launch.namespace,
            "isolate": launch.isolate and launch.join is None,
            "join": launch.join,
            "names": str(launch.names) if launch.names else None,
            "parent_gone": parent_gone,
        }
        passed = [fd for fd in (parent_gone, launch.namespace) if fd is not None]
        pipe = asyncio.subprocess.PIPE if capture else None
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(INIT), json.dumps(spec),
                stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe,
                env=dict(launch.env), pass_fds=passed, start_new_session=True,
            )  # fmt: skip
        except BaseException:
            os.close(alive)
            raise
        finally:
            os.close(parent_gone)
        return cls(process, launch, alive)

    @property
    def pid(self) -> int:
        """The process id of the init, as the owner sees it."""
        return self._process.pid

    @property
    def first_process(self) -> int | None:
        """The process whose namespaces are the machine's; None when it has none of its own."""
        if not self._launch.isolate:
            return None
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(self.pid).children()
            return children[0].pid if children else None
        return None

    async def entered(self) -> None:
        """Wait until the machine has its own namespaces, so that others can enter them."""
        if self._launch.isolate and self._launch.join is None:
            with contextlib.suppress(WaitTimeoutError):  # one that died young has none to enter
                await wait_until(
                    lambda: self.first_process is not None or self._process.returncode is not None,
                    timeout=ENTERED_WITHIN, waiting_for="the machine's first process",
                    interval=timedelta(milliseconds=5),
                )  # fmt: skip

    async def wait(self) -> int:
        """Wait for the end and return the exit code; 128 + n when it died of signal n."""
        code = await self._process.wait()
        if self._alive >= 0:
            os.close(self._alive)
            self._alive = -1
        return 128 - code if code < 0 else code

    async def lines(self, hear: Callable[[str], None]) -> None:
        """Hand over every line of output until both streams end."""
        streams = [s for s in (self._process.stdout, self._process.stderr) if s is not None]
        await asyncio.gather(*(_read_lines(stream, hear) for stream in streams))

    async def output(self) -> tuple[str, str]:
        """Read both streams to their end."""
        out, err = await self._process.communicate()
        return out.decode(errors="replace"), err.decode(errors="replace")

    def signal(self, number: Signals) -> None:
        """Send a signal to the machine's command; nothing happens when it has ended.

        Those that nobody can handle are carried out here: sent to the init they would orphan
        the machine, or keep the init from ending it.
        """
        match number:
            case Signals.SIGKILL:
                self.kill()
            case Signals.SIGSTOP:
                self.pause()
            case Signals.SIGCONT:
                self.resume()
            case _:
                self._to_init(number)

    def _to_init(self, number: Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def kill(self) -> None:
        """End every process of the machine at once."""
        if self._killed or self._process.returncode is not None:
            return
        self._killed = True
        if self._launch.isolate and self._launch.join is None:
            self._to_init(Signals.SIGKILL)
        else:
            os.close(self._alive)
            self._alive = -1

    def pause(self) -> None:
        """Freeze every process of the machine but its init."""
        self._to_all(Signals.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen machine go on."""
        self._to_all(Signals.SIGCONT)

    def _to_all(self, number: Signals) -> None:
        first = self.first_process or self.pid
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(first).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    child.send_signal(number)


async def _read_lines(stream: asyncio.StreamReader, hear: Callable[[str], None]) -> None:
    rest, told = b"", False  # told: the line of rest was heard already, what follows is cut off
    while chunk := await stream.read(65_536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if not told:
                hear(line[:LONGEST_LINE].decode(errors="replace"))
            told = False
        if len(rest) > LONGEST_LINE and not told:
            hear(rest[:LONGEST_LINE].decode(errors="replace"))
            told = True
        rest = b"" if told else rest
    if rest:
        hear(rest.decode(errors="replace"))
