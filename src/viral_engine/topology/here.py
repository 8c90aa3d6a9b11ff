"""Where a process finds itself, read from what the platform puts into its environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from viral_engine.errors import MisuseError
from viral_engine.topology.model import DEFAULT_APP_NAME

__all__ = ["Here"]

LOCAL_REGION = "iad"
LOCAL_PORT = 8080

# Only the shape is checked: a machine must start in a region that is newer than our list.
_REGION = re.compile(r"[a-z]{3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """This machine: its region, its names, and the port on which its app listens."""

    region: str
    primary_region: str
    machine_id: str
    private_ip: str
    app_name: str
    port: int

    @property
    def in_primary_region(self) -> bool:
        """Whether this is the region in which the primary is meant to be."""
        return self.region == self.primary_region

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Here:
        """Read FLY_REGION, PRIMARY_REGION, FLY_MACHINE_ID, FLY_PRIVATE_IP, FLY_APP_NAME, PORT.

        What is absent or empty gets the value of a process on its own machine: one region, which
        is the primary one, at 127.0.0.1. Raises MisuseError that names the variable at fault.
        """
        primary = _region(environ, "PRIMARY_REGION", environ.get("FLY_REGION") or LOCAL_REGION)
        return cls(
            region=_region(environ, "FLY_REGION", primary),
            primary_region=primary,
            machine_id=environ.get("FLY_MACHINE_ID") or "local",
            private_ip=environ.get("FLY_PRIVATE_IP") or "127.0.0.1",
            app_name=environ.get("FLY_APP_NAME") or DEFAULT_APP_NAME,
            port=_port(environ),
        )


def _region(environ: Mapping[str, str], variable: str, default: str) -> str:
    code = environ.get(variable) or default
    if _REGION.fullmatch(code) is None:
        raise MisuseError(
            f"{variable} is {code!r}, and a region's code is three lower-case letters",
            suggestion="List the regions with: viral regions",
        )
    return code


def _port(environ: Mapping[str, str]) -> int:
    text = environ.get("PORT") or str(LOCAL_PORT)
    port = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= port <= 65535:
        raise MisuseError(f"PORT is {text!r}, and a port is a whole number from 1 to 65535")
    return port
