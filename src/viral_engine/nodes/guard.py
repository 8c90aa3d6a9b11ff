from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from viral_engine.nodes import kernel

__all__ = ["guarded", "kill_descendants"]

KILL_LIMIT_S = 3.0
POLL_S = 0.01


def guarded(run: Callable[[], int]) -> int:
    """Run ``run`` in a child of this process and return its exit code.

    Nothing that ``run`` started outlives it: when the child ends, in whatever way, this process
    kills what is left of its family; when this process is killed, the child does. So neither
    SIGKILL nor a crash leaves an engine behind, unless both die in the same instant. SIGTERM,
    SIGINT and SIGHUP are handed on. Call it while the process has one thread.
    """
    kernel.adopt_orphans()
    lifeline, held = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(held)
        os._exit(_run_as_child(run, lifeline))
    os.close(lifeline)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: _terminate(child))
    code = _reap_until(child)
    kill_descendants()
    os.close(held)
    return code


def _run_as_child(run: Callable[[], int], lifeline: int) -> int:
    # A session of its own: what a terminal or a platform sends to the parent's group reaches this
    # side once, through the parent, and a SIGKILL to that group leaves this side to clean up.
    os.setsid()
    kernel.adopt_orphans()
    threading.Thread(target=_die_with, args=(lifeline,), daemon=True).start()
    code = 1
    try:
        code = run()
    except BaseException:  # noqa: BLE001 - after a fork nothing above this frame may run again
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return code


def _die_with(lifeline: int) -> None:
    # A thread, so that the end of the parent is noticed whatever the main thread is busy with.
    os.read(lifeline, 1)
    kill_descendants()
    os._exit(1)


def _terminate(child: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGTERM)


def _reap_until(child: int) -> int:
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def kill_descendants() -> None:
    """Kill everything that descends from this process, waiting at most 3 s for it to be gone."""
    import psutil  # noqa: PLC0415 - 50 ms that only the end has to pay

    family = psutil.Process()
    deadline = time.monotonic() + KILL_LIMIT_S
    while alive := [one for one in family.children(recursive=True) if _is_alive(one)]:
        for process in alive:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        if time.monotonic() > deadline:
            return
        # What a victim had forked meanwhile is adopted by this process and seen by the next look.
        time.sleep(POLL_S)


def _is_alive(process: object) -> bool:
    import psutil  # noqa: PLC0415 - as above

    assert isinstance(process, psutil.Process)
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
