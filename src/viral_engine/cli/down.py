"""``viral down``: the end of a globe; its data stays unless it is purged."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import click
import psutil

from viral_engine.cli.output import command_errors, console, json_option, print_json
from viral_engine.cli.place import home_option, with_client
from viral_engine.errors import GlobeError, NotRunningError
from viral_engine.fly.extension import GlobeExtension
from viral_engine.globe.home import purge, read_run_file

DOWN_WITHIN = timedelta(seconds=90)
LOOK_EVERY = 0.1


@click.command()
@click.option("--purge", "purging", is_flag=True, help="Delete the data folder as well.")
@home_option
@json_option
@command_errors
def down(purging: bool, home: Path, as_json: bool) -> None:
    """Stop the globe; a second up comes back with the same data."""
    ran = False
    try:
        pid = read_run_file(home)["pid"]
    except NotRunningError:
        if not purging:
            raise
    else:
        ran = True
        with_client(home, lambda client: GlobeExtension(client).shut_down())
        _wait_for_end(pid)
    if purging:
        purge(home)
    if as_json:
        print_json({"stopped": ran, "purged": purging})
    else:
        said = f"Stopped. The data {'is deleted' if purging else f'stays in {home}'}."
        console().print(said, markup=False)


def _wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + DOWN_WITHIN.total_seconds()
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or _is_zombie(pid):
            return
        time.sleep(LOOK_EVERY)
    os.kill(pid, signal.SIGKILL)
    raise GlobeError(f"The globe (pid {pid}) did not stop in time and was killed.")


def _is_zombie(pid: int) -> bool:
    """Whether it has ended and only waits for a parent that never asks, as in many containers."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
