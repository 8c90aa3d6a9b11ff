"""The first process of a machine: starts its command, reaps, passes signals on, leaves nothing.

Run by path with ``python -I -S`` (standard library only, so that it starts in milliseconds) and one
JSON argument. Two ways to leave nothing behind:

* ``isolate``: the command lives in a PID namespace of its own, which the kernel ends as a whole as
  soon as this process dies, however it dies;
* otherwise this process becomes the reaper of all orphans below it (Linux) and ends them one by
  one when the command exits or the parent goes away.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
from typing import NoReturn

CLONE_NEWNS, CLONE_NEWIPC = 0x00020000, 0x08000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 1, 36, 47, 4

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1,
             signal.SIGUSR2, signal.SIGABRT, signal.SIGALRM, signal.SIGFPE, signal.SIGILL,
             signal.SIGPIPE, signal.SIGSEGV, signal.SIGTRAP, signal.SIGWINCH)  # fmt: skip
"""What the platform's API can send to a machine; one that ended this process would orphan it."""
CANNOT_START = 126
"""Exit code when the command itself could not be started, as shells use it."""


def libc_call(name: str, *args: object) -> None:
    """Call libc and raise OSError with the reason when it fails."""
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*args):
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def enter(spec: dict[str, object]) -> None:
    """Move into the network of the region, or into everything of a running machine."""
    if spec.get("join"):
        # All are opened first: after the mount namespace, /proc is the machine's own.
        kinds = {"pid": CLONE_NEWPID, "ipc": CLONE_NEWIPC, "mnt": CLONE_NEWNS}
        doors = {kind: os.open(f"/proc/{spec['join']}/ns/{kind}", os.O_RDONLY) for kind in kinds}
        for kind, door in doors.items():
            libc_call("setns", door, kinds[kind])
            os.close(door)
    if spec.get("network") is not None:
        libc_call("setns", spec["network"], CLONE_NEWNET)


def start(spec: dict[str, object]) -> int:
    """Fork the command with default signals in a session of its own and return its pid."""
    argv = [str(part) for part in spec["argv"]]  # type: ignore[attr-defined]  # JSON list
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        for number in (*PASSED_ON, signal.SIGXFSZ):  # Python ignores some, which exec would keep
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        if sys.platform == "linux" and os.geteuid() != 0:
            libc_call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        os.chdir(str(spec["cwd"]))
        os.execvp(argv[0], argv)
    except OSError as exc:
        os.write(2, f"cannot start {argv[0]}: {exc.strerror}\n".encode(errors="replace"))
    except (ValueError, IndexError) as exc:
        os.write(2, f"cannot start the command: {exc}\n".encode(errors="replace"))
    os._exit(CANNOT_START)


def show_names(folder: str) -> None:
    """Let the machine see the platform's own hosts and resolv.conf in place of the laptop's."""
    for name in os.listdir(folder):  # noqa: PTH208 - pathlib would double the time to start
        target = f"/etc/{name}"
        if os.path.exists(target):  # noqa: PTH110 - as above
            libc_call("mount", f"{folder}/{name}".encode(), target.encode(), None, MS_BIND, None)


def supervise(pid: int, parent_gone: int) -> int:
    """Wait for the command, pass signals on, reap everybody; return its exit code."""
    waker, wakened = os.pipe()
    os.set_blocking(waker, False)
    os.set_blocking(wakened, False)
    signal.set_wakeup_fd(wakened, warn_on_full_buffer=False)
    for number in (*PASSED_ON, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    while True:
        code = reap(pid)
        if code is not None:
            return code
        ready, _, _ = select.select([waker, parent_gone], [], [])
        if parent_gone in ready:
            return 128 + signal.SIGKILL
        for received in os.read(waker, 4096):
            if received in PASSED_ON:
                os.kill(pid, received)


def reap(main: int) -> int | None:
    """Collect every dead child; the exit code of the main one once it is among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return CANNOT_START
        if pid == 0:
            return None
        if pid == main:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code


def end_the_rest(proc: int) -> None:
    """Kill every process below this one; orphans come up to it and are killed in their turn."""
    while True:
        for pid in descendants(proc):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def descendants(proc: int) -> list[int]:
    """Every process below this one, from the /proc behind a descriptor."""
    children: dict[int, list[int]] = {}
    for name in os.listdir(proc):
        if name.isdigit():
            try:
                stat = os.open(f"{name}/stat", os.O_RDONLY, dir_fd=proc)
                with os.fdopen(stat, "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(name))
    found, left = [], [os.getpid()]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


def isolated(spec: dict[str, object], parent_gone: int) -> int:
    """Run the command under a first process in a PID namespace of its own."""
    libc_call("unshare", CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC)
    inner = os.fork()
    if inner:
        return supervise(inner, parent_gone)
    libc_call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc_call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    libc_call("mount", b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, None)
    if spec.get("names"):
        show_names(str(spec["names"]))
    os._exit(supervise(start(spec), parent_gone))


def main() -> NoReturn:
    """Do what the JSON argument says and exit with the command's code."""
    spec: dict[str, object] = json.loads(sys.argv[1])
    parent_gone = int(str(spec["parent_gone"]))
    os.set_inheritable(parent_gone, False)
    # Until supervise can pass them on, signals wait: one that came earlier would orphan the command.
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    if spec["isolate"]:
        libc_call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # Opened first: after entering a machine, /proc is the machine's and numbers processes its way.
    proc = os.open("/proc", os.O_RDONLY) if sys.platform == "linux" else -1
    try:
        enter(spec)
    except OSError as exc:
        os.write(2, f"cannot enter the machine: {exc}\n".encode())
        os._exit(CANNOT_START)
    if spec["isolate"]:
        os._exit(isolated(spec, parent_gone))
    if sys.platform == "linux":
        libc_call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    code = supervise(start(spec), parent_gone)
    end_the_rest(proc)
    os._exit(code)


if __name__ == "__main__":
    main()
