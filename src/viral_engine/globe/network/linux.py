"""The few calls of the Linux kernel that Python 3.11 does not offer: namespaces and prctl."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 2, 4, 8, 16384, 1 << 18
_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23

_SIOCETHTOOL = 0x8946
_ETHTOOL_OFF = {"tx-checksum": 0x17, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)} ({errno.errorcode.get(code, code)})")


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces; raises OSError when that is not allowed."""
    _check(_libc().unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Move the calling thread into the namespace behind ``fd``."""
    _check(_libc().setns(fd, kind), "setns")


def in_namespace(fd: int, work: Callable[[], T]) -> T:
    """Run ``work`` in a thread of its own inside a network namespace and return its result."""

    def enter() -> T:
        setns(fd, CLONE_NEWNET)
        return work()

    return in_thread(enter)


def in_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread that ends with it, because namespaces belong to threads."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as exc:  # noqa: BLE001 - handed to the caller below
            errors.append(exc)

    thread = threading.Thread(target=run, name="namespace")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def new_network_namespace() -> int:
    """Make a network namespace and return the descriptor that keeps it alive."""

    def make() -> int:
        unshare(CLONE_NEWNET)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    return in_thread(make)


def mount_own_proc() -> None:
    """Give this PID namespace a /proc that shows its own processes."""
    libc = _libc()
    _check(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "mount")
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _check(libc.mount(b"proc", b"/proc", b"proc", flags, None), "mount /proc")


def packet_socket(interface: str) -> socket.socket:
    """Open an interface of this namespace for whole incoming frames."""
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    port.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    port.bind((interface, 0))
    return port


def offloads_off(interface: str) -> None:
    """Make packets of ``interface`` complete before they leave it.

    With checksum offload on, a frame that is read from the other end has no valid checksum, and
    the receiver would drop it.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in _ETHTOOL_OFF.values():
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            request = struct.pack("16sP", interface.encode(), ctypes.addressof(value))
            fcntl.ioctl(control, _SIOCETHTOOL, request)


def congestion_control(*wanted: str) -> str:
    """Have the first of ``wanted`` that this host allows control what this network namespace connects.

    Return which one does then: where /proc/sys must not be written, as in some containers, it is the
    host's own, whatever was wanted.
    """
    in_force = Path("/proc/sys/net/ipv4/tcp_congestion_control")
    for name in wanted:
        with contextlib.suppress(OSError):  # not allowed here: the next one may be
            in_force.write_text(name, encoding="ascii")
            break
    return in_force.read_text(encoding="ascii").strip()


_CAP_NET_ADMIN, _CAP_NET_RAW, _CAP_SYS_CHROOT, _CAP_SYS_ADMIN = 12, 13, 18, 21
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAPABILITY_VERSION_3 = 0x20080522


def enter_user_namespace() -> None:
    """Give this single-threaded process the rights of a user namespace that maps only itself.

    The uid stays what it is, because PostgreSQL refuses to run as uid 0; the rights are kept
    across exec as ambient capabilities, so that machines can be started inside.
    """
    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER)
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 - one write call, unbuffered by size
            file.write(line)
    keep_across_exec((_CAP_NET_ADMIN, _CAP_NET_RAW, _CAP_SYS_CHROOT, _CAP_SYS_ADMIN))


def keep_across_exec(capabilities: tuple[int, ...]) -> None:
    """Make ``capabilities`` that this process holds ambient, so that its children hold them too."""
    libc = _libc()
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    _check(libc.capget(header, data), "capget")
    words = list(struct.unpack("6I", data.raw))
    for capability in capabilities:
        words[2 + 3 * (capability // 32)] |= 1 << (capability % 32)
    _check(libc.capset(header, struct.pack("6I", *words)), "capset")
    for capability in capabilities:
        _check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0), "prctl")
