from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

__all__ = ["LINK_OPTIONS", "DatabaseAddresses"]

_NODE_VARIABLE = re.compile(r"READ_REPLICA_([A-Z]{3})_URL")

LINK_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {
        # libpq takes anything under 2 s as 2 s.
        "connect_timeout": 2,
        "keepalives": 1,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        # A black hole acknowledges nothing: give a connection up after 5 s instead of 15 minutes.
        "tcp_user_timeout": 5000,
    }
)
"""How a connection to a database notices that the network is gone (seconds; the last in ms)."""


@dataclass(frozen=True, slots=True)
class DatabaseAddresses:
    """Where the databases are: ``primary`` always leads to the primary, ``nodes`` to a region's own.

    ``primary`` is None where no DATABASE_URL was given.
    """

    primary: str | None
    nodes: Mapping[str, str]

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], *, region: str) -> DatabaseAddresses:
        """Read DATABASE_URL and READ_REPLICA_<REGION>_URL; empty values count as absent.

        With DATABASE_URL alone, that one database is taken to be the node of ``region``.
        """
        primary = environ.get("DATABASE_URL") or None
        found = {
            match[1].lower(): value
            for name, value in sorted(environ.items())
            if value and (match := _NODE_VARIABLE.fullmatch(name))
        }
        if not found and primary is not None:
            found = {region: primary}
        return cls(primary=primary, nodes=MappingProxyType(found))
