from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from viral_engine.errors import MisuseError
from viral_engine.topology.names import DATABASE_URL, PGBOUNCER_URL
from viral_engine.topology.regions import all_regions, explain_unknown

__all__ = ["LINK_OPTIONS", "DatabaseAddresses", "address_in"]

_NODE_VARIABLE = re.compile(r"READ_REPLICA_(.+)_URL")
_CODE = re.compile(r"[A-Z]{3}")
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9.-]*)(\+[a-z0-9_]+)?://")
_SUGGESTION = (
    "Give it as postgresql://USER:PASSWORD@HOST:5432/DATABASE, with %40 for an @ in the password, "
    "and so on."
)

_log = logging.getLogger("viral_engine")

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

    ``primary`` is None where no DATABASE_URL was given. ``pooler`` leads to the primary as well, by
    a PgBouncer in transaction mode: what the app writes, and reads there, goes through it.
    """

    primary: str | None
    nodes: Mapping[str, str]
    pooler: str | None = None

    @property
    def way_to_primary(self) -> str | None:
        """How the app's own statements get to the primary."""
        return self.pooler or self.primary

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], *, region: str) -> DatabaseAddresses:
        """Read DATABASE_URL, PGBOUNCER_URL, READ_REPLICA_<REGION>_URL; empty ones count as absent.

        Where the primary's ``region`` has no variable of its own, DATABASE_URL is taken to be its
        node. Raises MisuseError, which repeats no address, for one that cannot be one, and for a
        pooler alone: who is primary must be asked of the databases themselves.
        """
        primary = address_in(environ, DATABASE_URL)
        pooler = address_in(environ, PGBOUNCER_URL)
        if pooler is not None and primary is None:
            raise MisuseError(
                f"{PGBOUNCER_URL} is set and {DATABASE_URL} is not.",
                suggestion=f"Set {DATABASE_URL} to the primary's own address, past the pooler.",
            )
        nodes: dict[str, str] = {}
        for variable in sorted(environ):
            named = _NODE_VARIABLE.fullmatch(variable)
            address = address_in(environ, variable) if named else None
            if named and address is not None:
                nodes[_region_of(variable, named[1])] = address
        if primary is not None:
            nodes.setdefault(region, primary)
        return cls(primary=primary, nodes=MappingProxyType(nodes), pooler=pooler)


def address_in(environ: Mapping[str, str], variable: str) -> str | None:
    """Return a database's address as libpq takes it, None where the variable is unset or empty.

    SQLAlchemy's form, with the driver in the scheme, is taken too. Raises MisuseError for what is
    no address of a PostgreSQL database.
    """
    text = environ.get(variable, "").strip()
    if not text:
        return None
    scheme = _SCHEME.match(text)
    if scheme and scheme[1] not in {"postgres", "postgresql"}:
        raise MisuseError(
            f"{variable} begins with {scheme[0]}, and only PostgreSQL databases are supported.",
            suggestion=_SUGGESTION,
        )
    address = f"postgresql://{text[scheme.end() :]}" if scheme else text
    try:
        parts = conninfo_to_dict(address)
    except psycopg.ProgrammingError:
        parts = {}  # what libpq says of it may repeat the password
    if not parts:
        raise MisuseError(f"{variable} is no address of a database.", suggestion=_SUGGESTION)
    ports = str(parts.get("port") or "5432").split(",")
    # Where a password was not encoded, what is taken for the host or the port is a part of it.
    if "@" in str(parts.get("host", "")) or not all(map(_is_port, ports)):
        raise MisuseError(
            f"{variable} has no valid host and port: is its password percent-encoded?",
            suggestion=_SUGGESTION,
        )
    return address


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 1 <= int(text) <= 65535


def _region_of(variable: str, code: str) -> str:
    if _CODE.fullmatch(code) is None:
        raise MisuseError(
            f"{variable} names no region: a code is three letters, as in READ_REPLICA_LHR_URL.",
            suggestion="List the regions with: viral regions",
        )
    region = code.lower()
    if region not in all_regions():
        # It may be newer than our list, or a name of the user's own for another cloud.
        _log.warning("%s: %s", variable, explain_unknown(region))
    return region
