"""Which network can be had here, and why not the other."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from viral_engine.errors import NetworkUnavailableError
from viral_engine.globe.network import linux
from viral_engine.globe.network.addresses import NetworkMode


def prepare(wanted: NetworkMode | None) -> tuple[NetworkMode, str]:
    """Decide the mode, enter a user namespace when that is needed, and say why it is this one.

    Must run before any thread is started. Raises NetworkUnavailableError when ``wan`` was asked
    for and cannot be had.
    """
    if wanted is NetworkMode.FLAT:
        return NetworkMode.FLAT, "asked for"
    direct = _refusal(user_namespace=False) if os.geteuid() == 0 else "not root"
    if direct is None:
        return NetworkMode.WAN, "as root"
    indirect = _refusal(user_namespace=True)
    if indirect is None:
        linux.enter_user_namespace()
        return NetworkMode.WAN, "in a user namespace"
    why = f"{direct}; in a user namespace: {indirect}"
    if wanted is NetworkMode.WAN:
        raise NetworkUnavailableError(f"The wan network cannot be had here: {why}.")
    return NetworkMode.FLAT, f"wan cannot be had here: {why}"


def why_no_wan() -> str | None:
    """Say why ``wan`` cannot be had by this process; None when it can."""
    if os.geteuid() == 0 and _refusal(user_namespace=False) is None:
        return None
    return _refusal(user_namespace=True)


def _refusal(*, user_namespace: bool) -> str | None:
    """Why namespaces cannot be made, tried in a child process; None when they can."""
    if sys.platform != "linux":
        return f"namespaces are Linux's, and this is {sys.platform}"
    return _in_child(lambda: _try(user_namespace=user_namespace))


def _try(*, user_namespace: bool) -> None:
    if user_namespace:
        linux.enter_user_namespace()
    linux.unshare(linux.CLONE_NEWNET)
    _cable()
    # Last, because a process that has unshared this can start no thread any more.
    linux.unshare(linux.CLONE_NEWPID | linux.CLONE_NEWNS)
    pid = os.fork()
    if pid == 0:
        try:
            linux.mount_own_proc()
        except OSError:
            os._exit(1)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise OSError("a /proc of its own cannot be mounted")


def _cable() -> None:
    from pyroute2 import IPRoute  # noqa: PLC0415 - only the child pays for it

    with IPRoute() as ip:
        ip.link("add", ifname="ve0", kind="veth", peer="ve1")
    linux.offloads_off("ve0")
    linux.packet_socket("ve0").close()


def _in_child(work: Callable[[], None]) -> str | None:
    """Run ``work`` in a child and return the message of its failure, None for none."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            work()
        except BaseException as exc:  # noqa: BLE001 - told to the parent through the pipe
            os.write(writing, str(exc).encode()[:500] or b"unknown")
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        said = file.read().decode()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code < 0:
        return f"the attempt died of {signal.Signals(-code).name}"
    return said or None
