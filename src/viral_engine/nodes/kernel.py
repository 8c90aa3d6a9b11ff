from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

__all__ = [
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "adopt_orphans",
    "capabilities",
    "die_with_parent",
    "keep_capabilities_across_setuid",
    "keep_only_capability",
    "keep_windows_open",
]

# From linux/capability.h and linux/prctl.h, which Python does not carry.
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_SET_CHILD_SUBREAPER = 36
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _prctl(option: int, second: int = 0, third: int = 0) -> None:
    arguments = (ctypes.c_ulong(value) for value in (second, third, 0, 0))
    _checked(_libc.prctl(ctypes.c_int(option), *arguments))


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when ``parent`` dies; nothing happens outside Linux.

    Safe between fork and exec: it takes no lock and imports nothing. The mark survives exec.
    """
    if sys.platform != "linux":
        return
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the mark was set
        os._exit(1)


def keep_windows_open() -> None:
    """Let TCP keep what it has found a way to hold, after a pause too, where that may be changed here.

    What a database sends to another region is mostly less than that and comes in bursts: a few
    hundred kilobytes after a quiet second would else take a round trip for each 100.
    """
    with suppress(OSError):  # not Linux, or not our network's to change
        Path("/proc/sys/net/ipv4/tcp_slow_start_after_idle").write_text("0", encoding="ascii")


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own; nothing happens outside Linux.

    PostgreSQL is started detached from Patroni and would otherwise leave the family.
    """
    if sys.platform == "linux":
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def capabilities() -> frozenset[int]:
    """Return the capabilities that this process may use (those numbered under 32)."""
    header, data = _Header(_CAPABILITY_VERSION_3, 0), (_Data * 2)()
    _checked(_libc.capget(ctypes.byref(header), data))
    return frozenset(number for number in range(32) if data[0].permitted >> number & 1)


def keep_capabilities_across_setuid() -> None:
    """Have the next change of user leave this process its permitted capabilities."""
    _prctl(_PR_SET_KEEPCAPS, 1)


def keep_only_capability(capability: int | None) -> None:
    """Give up every capability but this one, which whatever is executed keeps too.

    Raises OSError where this process does not have it.
    """
    header, data = _Header(_CAPABILITY_VERSION_3, 0), (_Data * 2)()
    if capability is not None:
        data[0] = _Data(*(1 << capability for _ in range(3)))
    _checked(_libc.capset(ctypes.byref(header), data))
    if capability is not None:
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)
    # A change of user closes /proc/self to the process itself, and Patroni reads it.
    _prctl(_PR_SET_DUMPABLE, 1)
