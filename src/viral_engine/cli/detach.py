"""``viral up --detach``: the same command in the background, followed until it is ready."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import click

from viral_engine.cli.output import console, print_json, say_failure
from viral_engine.cli.steps import PrintedSteps
from viral_engine.errors import GlobeError

GIVE_UP_AFTER = 300.0
"""Seconds; bringing up has its own, shorter limits, so that this one tells of a hang."""

LOOK_EVERY = 0.1

BACKGROUND = "VIRAL_UP_IN_BACKGROUND"
"""Set for the process in the background, which is given the same options."""


def run_detached(home: Path, *, as_json: bool) -> None:
    """Start ``viral up`` with the same options in a session of its own; returns when it is ready.

    What it writes goes to ``up.jsonl`` and ``up.err`` of the data folder. Ctrl-C stops it again.
    """
    command = [sys.executable, "-m", "viral_engine.cli.main", *sys.argv[1:], "--json"]
    with (home / "up.jsonl").open("w") as out, (home / "up.err").open("w") as err:
        process = subprocess.Popen(
            command, stdout=out, stderr=err, stdin=subprocess.DEVNULL, start_new_session=True,
            env=os.environ | {"VIRAL_HOME": str(home), BACKGROUND: "1"},
        )  # fmt: skip
    try:
        with (home / "up.jsonl").open() as lines:
            _follow(process, lines, home, as_json=as_json)
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise


def _follow(process: subprocess.Popen[bytes], lines: IO[str], home: Path, *, as_json: bool) -> None:
    steps = PrintedSteps()  # to stderr: stdout is for the one result
    deadline = time.monotonic() + GIVE_UP_AFTER
    while time.monotonic() < deadline:
        line = lines.readline()
        if not line.endswith("\n"):
            if process.poll() is not None and not line:
                break
            time.sleep(LOOK_EVERY)
            continue
        event: dict[str, Any] = json.loads(line)
        if "error" in event:
            steps.close()
            process.wait()
            _fail(event["error"], as_json=as_json, code=process.returncode)
        match event.get("event"):
            case "begun":
                steps.begun(event["step"])
            case "done":
                steps.done(event["step"], event["seconds"])
            case "ready":
                steps.close()
                _ready(event, as_json=as_json)
                return
    steps.close()
    process.terminate()
    said = (home / "up.err").read_text(encoding="utf-8")[-2000:]
    raise GlobeError(f"The globe ended before it was ready.\n{said}")


def _ready(event: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(event)
        return
    screen = console()
    screen.print(f"[bold green]Ready[/] in the background; network: {event['network']}.")
    screen.print(f"  anycast    {event['addresses']['anycast']}")
    for region, url in event["addresses"]["edges"].items():
        screen.print(f"  edge {region}   {url}")
    screen.print("See it with: viral status. Stop it with: viral down.")


def _fail(error: dict[str, str], *, as_json: bool, code: int) -> None:
    if as_json:
        print_json({"error": error})
    else:
        say_failure(error["message"], error["suggestion"])
    raise click.exceptions.Exit(code or 1)
