"""Runs the app node as a machine does: a process of its own, told by its environment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx

from viral_engine.clock import NotYet, wait_until

RUN = "import os, sys; from viral_engine.nodes.app import run; sys.exit(run(os.environ))"
SOON = timedelta(seconds=30)


@dataclass(frozen=True)
class AppProcess:
    process: subprocess.Popen[bytes]
    url: str
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=20)


def _started(environ: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen([sys.executable, "-c", RUN], env=environ, stderr=output)


def environ_of_machine(settings: Mapping[str, str]) -> dict[str, str]:
    """Return a machine's environment: an address of its own and what the test sets."""
    pick = random.SystemRandom().randint
    address = f"127.{pick(64, 254)}.{pick(0, 254)}.{pick(1, 254)}"
    inherited = {
        name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ
    }
    return {
        **inherited,
        "FLY_REGION": "lhr",
        "PRIMARY_REGION": "iad",
        "FLY_MACHINE_ID": "m1",
        "FLY_PRIVATE_IP": address,
        "PORT": "8080",
        **settings,
    }


def run_to_its_end(settings: Mapping[str, str]) -> tuple[int, str]:
    """Run a machine that ends by itself; return its exit code and what it wrote to stderr."""
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        env=environ_of_machine(settings),
        capture_output=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stderr.decode()


@asynccontextmanager
async def app_machine(
    settings: Mapping[str, str], *, log: Path, ready_path: str = "/api/health"
) -> AsyncIterator[AppProcess]:
    """Run an app machine until the test is done, ready when its path answers."""
    environ = environ_of_machine(settings)
    url = f"http://{environ['FLY_PRIVATE_IP']}:{environ['PORT']}"
    process = _started(environ, log)
    machine = AppProcess(process, url, log)
    try:
        async with httpx.AsyncClient(base_url=url) as user:

            async def answers() -> bool | NotYet:
                assert process.poll() is None, machine.said
                try:
                    return (await user.get(ready_path)).status_code == 200
                except httpx.TransportError as error:
                    return NotYet(repr(error))

            await wait_until(answers, timeout=SOON, waiting_for="the app machine to answer")
        yield machine
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
