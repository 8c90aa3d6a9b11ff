from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from viral_engine.errors import UnsupportedError

__all__ = ["connections", "served_at"]

ESTABLISHED = "01"


def connections(environ: Mapping[str, str], proc: Path = Path("/proc/net")) -> dict[str, object]:
    """Return how many connections this machine's app has from outside, the kernel's own count.

    Raises UnsupportedError where there is no ``/proc``.
    """
    tables = [path for name in ("tcp", "tcp6") if (path := proc / name).exists()]
    if not tables:
        raise UnsupportedError(f"{proc} is not there: connections cannot be counted.")
    served = (environ.get("FLY_PRIVATE_IP", ""), int(environ.get("PORT") or "8080"))
    found = sum(
        served_at(address, served)
        for table in tables
        for address in _established(table.read_text(encoding="ascii"))
    )
    return {"connections": found}


def served_at(local: tuple[str, int], served: tuple[str, int]) -> bool:
    """Tell whether a connection's own end is the app's; one to IPv4 may be listed as IPv6."""
    address, port = local
    wanted, wanted_port = served
    if port != wanted_port or not wanted:
        return port == wanted_port
    here = ipaddress.ip_address(address)
    mapped = getattr(here, "ipv4_mapped", None)
    return (mapped or here) == ipaddress.ip_address(wanted)


def _established(table: str) -> Iterator[tuple[str, int]]:
    for line in table.splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        if state == ESTABLISHED:
            address, _, port = local.partition(":")
            # Four bytes at a time, each in the order of this machine.
            words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
            packed = struct.pack(f"={len(words)}I", *words)
            yield str(ipaddress.ip_address(packed)), int(port, 16)
