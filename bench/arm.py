"""An arm of the measurement: one globe in a data folder of its own, gone when it is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from viral_engine.nodes.kernel import die_with_parent

READY_WITHIN = 180.0
STOPPED_WITHIN = 100.0
LOOK_EVERY = 0.02

VIRAL = (sys.executable, "-m", "viral_engine.cli.main")


class BenchError(Exception):
    """The measurement could not be made."""


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from the command to the moment when every machine was healthy, and of each step."""

    seconds: float
    steps: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Arm:
    """A globe that runs: its process, its data folder and how long it took to be ready."""

    pid: int
    environ: Mapping[str, str]
    start: Start

    def ask(self, *arguments: str) -> dict[str, Any]:
        """Return what a command of ``viral`` prints as JSON."""
        done = _viral(self.environ, *arguments, "--json")
        answer: dict[str, Any] = json.loads(done)
        return answer


@contextmanager
def running(
    options: tuple[str, ...],
    home: Path,
    environ: Mapping[str, str],
    *,
    keep: bool,
    folder: Path | None = None,
) -> Iterator[Arm]:
    """Run ``viral up`` with ``options`` until left; the data folder stays where ``keep`` says so.

    It is run in ``folder``, where an app of its own is found, or else beside the data folder.

    Raises BenchError when it does not come up. Were this very process killed, the globe would end
    with it.
    """
    home.mkdir(mode=0o700, exist_ok=True)
    own = {**environ, "VIRAL_HOME": str(home)}
    told, said = home.with_suffix(".jsonl"), home.with_suffix(".err")
    began = time.monotonic()
    with told.open("w") as out, said.open("w") as err:
        process = subprocess.Popen(
            [*VIRAL, "up", "--json", "--network", "wan", *options],
            stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=own, cwd=folder or home.parent,
            start_new_session=True,  # Ctrl-C is ours to pass on, in order
            preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509 - nothing here has threads
        )  # fmt: skip
    try:
        steps = _follow(process, told, said)
        yield Arm(process.pid, own, Start(time.monotonic() - began, steps))
    finally:
        _stop(process)
        if not keep and (home / "globe.json").exists():
            _viral(own, "down", "--purge")


def _follow(process: subprocess.Popen[bytes], told: Path, said: Path) -> dict[str, float]:
    """Return the seconds of each step once the globe says that it is ready."""
    steps: dict[str, float] = {}
    deadline = time.monotonic() + READY_WITHIN
    with told.open() as lines:
        unfinished = ""
        while time.monotonic() < deadline:
            unfinished += lines.readline()
            if not unfinished.endswith("\n"):
                if process.poll() is not None:
                    break
                time.sleep(LOOK_EVERY)
                continue
            event, unfinished = json.loads(unfinished), ""
            if "error" in event:
                raise BenchError(f"viral up failed: {event['error']['message']}")
            if event.get("event") == "done":
                steps[event["step"]] = event["seconds"]
            if event.get("event") == "ready":
                return steps
    ended = f"ended with {process.returncode}" if process.poll() is not None else "is not ready"
    raise BenchError(f"viral up {ended}: {said.read_text(encoding='utf-8')[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a globe as Ctrl-C would, and by force where that is not enough."""
    process.terminate()
    try:
        process.wait(STOPPED_WITHIN)
    finally:
        process.kill()
        process.wait()


def _viral(environ: Mapping[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [*VIRAL, *arguments], env=dict(environ), capture_output=True, text=True, check=False,
        timeout=STOPPED_WITHIN,
    )  # fmt: skip
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise BenchError(f"viral {' '.join(arguments)} failed with {done.returncode}: {said}")
    return done.stdout
