"""The kinds of values a deployment file holds: what each allows, in words and in code."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from viral_engine.topology.names import is_reserved
from viral_engine.topology.regions import all_regions, explain_unknown

__all__ = [
    "APP_NAME",
    "ASGI_APP",
    "BYTES",
    "DATABASE_NAME",
    "ENV_NAME",
    "HOSTNAMES",
    "PARAMETER_NAME",
    "PARAMETER_VALUE",
    "REGION",
    "RESOURCE",
    "TEXT",
    "URL_PATH",
    "WITNESS",
    "Kind",
    "WrongValueError",
    "choice",
    "duration",
    "numbers",
    "whole",
]


class WrongValueError(ValueError):
    """A value is not of its kind; a message replaces the usual sentence."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value: ``allowed`` for people, ``read`` turns TOML's value into ours.

    ``read`` raises WrongValueError, with a message where more can be said than what is allowed.
    """

    allowed: str
    read: Callable[[object], object]


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise WrongValueError
    return value


def _number(value: object) -> int:
    # TOML's true is Python's True, which is an int.
    if isinstance(value, bool) or not isinstance(value, int):
        raise WrongValueError
    return value


def _matching(allowed: str, pattern: str) -> Kind:
    compiled = re.compile(pattern)

    def read(value: object) -> str:
        text = _string(value)
        if compiled.fullmatch(text) is None:
            raise WrongValueError
        return text

    return Kind(allowed, read)


def whole(low: int, high: int) -> Kind:
    """Allow the whole numbers from ``low`` to ``high``."""

    def read(value: object) -> int:
        number = _number(value)
        if not low <= number <= high:
            raise WrongValueError
        return number

    return Kind(f"a whole number from {low} to {high}", read)


def numbers(*allowed: int) -> Kind:
    """Allow these numbers only."""

    def read(value: object) -> int:
        if _number(value) not in allowed:
            raise WrongValueError
        return _number(value)

    return Kind(" or ".join(map(str, allowed)), read)


def choice(options: type[StrEnum]) -> Kind:
    """Allow the values of an enumeration."""

    def read(value: object) -> StrEnum:
        if value not in list(options):
            raise WrongValueError
        return options(_string(value))

    return Kind(" or ".join(f'"{option}"' for option in options), read)


_DURATION = re.compile(r"(\d{1,6})(ms|s|m)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}


def duration(low: timedelta, high: timedelta) -> Kind:
    """Allow text such as "500ms", "15s" or "2m" within these bounds."""

    def read(value: object) -> timedelta:
        match = _DURATION.fullmatch(_string(value))
        if match is None:
            raise WrongValueError
        read_as = timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
        if not low <= read_as <= high:
            raise WrongValueError
        return read_as

    bounds = f"{low.total_seconds():g} s to {high.total_seconds():g} s"
    return Kind(f'a duration such as "500ms", "15s" or "2m", from {bounds}', read)


_BYTES = re.compile(r"(\d{1,6})(kb|mb|gb)")
_POWERS = {"kb": 1, "mb": 2, "gb": 3}
_LEAST_BYTES = 1024**2


def _read_bytes(value: object) -> int:
    match = _BYTES.fullmatch(_string(value))
    size = int(match[1]) * 1024 ** _POWERS[match[2]] if match else 0
    if size < _LEAST_BYTES:
        raise WrongValueError
    return size


def _read_region(value: object) -> str:
    code = _string(value)
    if code not in all_regions():
        raise WrongValueError(explain_unknown(code))
    return code


def _read_witness(value: object) -> str:
    return "" if value == "none" else _read_region(value)


def _read_asgi_app(value: object) -> str:
    module, colon, attribute = _string(value).partition(":")
    parts = [*module.split("."), *attribute.split(".")]
    if not colon or not all(part.isidentifier() and not keyword.iskeyword(part) for part in parts):
        raise WrongValueError
    return f"{module}:{attribute}"


def _read_env_name(value: object) -> str:
    name = _string(value)
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
        raise WrongValueError
    if is_reserved(name):
        raise WrongValueError(f"{name} is set by the platform or by Viral Engine: leave it out")
    return name


# What replication, failover and the declared consistency stand on.
_OWN_PARAMETERS: Collection[str] = frozenset(
    {
        "archive_mode",
        "cluster_name",
        "data_checksums",
        "fsync",
        "full_page_writes",
        "hot_standby",
        "listen_addresses",
        "max_replication_slots",
        "max_wal_senders",
        "port",
        "primary_conninfo",
        "primary_slot_name",
        "recovery_target_timeline",
        "restore_command",
        "synchronous_commit",
        "synchronous_standby_names",
        "unix_socket_directories",
        "wal_level",
        "wal_log_hints",
    }
)


def _read_parameter_name(value: object) -> str:
    name = _string(value)
    if re.fullmatch(r"[a-z_]+(\.[a-z_]+)?", name) is None:
        raise WrongValueError
    if name in _OWN_PARAMETERS:
        raise WrongValueError(f"{name} is set by Viral Engine, whose guarantees stand on it")
    return name


_HOSTNAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))+")


def _read_hostnames(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise WrongValueError
    names = tuple(_string(name) for name in value)
    if not all(_HOSTNAME.fullmatch(name) for name in names):
        raise WrongValueError
    return tuple(dict.fromkeys(names))


def _read_parameter(value: object) -> str:
    match value:
        case bool():
            return "on" if value else "off"
        case str() | int() | float():
            return str(value)
    raise WrongValueError


APP_NAME = _matching(
    "1 to 63 lower-case letters, digits and dashes, without a dash at either end",
    r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
)
ASGI_APP = Kind('an importable "module:attribute"', _read_asgi_app)
BYTES = Kind('a size of at least 1 MB, such as "64mb" or "1gb"', _read_bytes)
DATABASE_NAME = _matching(
    "1 to 63 lower-case letters, digits and underscores, not beginning with a digit",
    r"[a-z_][a-z0-9_]{0,62}",
)
ENV_NAME = Kind("letters, digits and underscores, not beginning with a digit", _read_env_name)
HOSTNAMES = Kind('a list of host names, such as ["app.example.com"]', _read_hostnames)
PARAMETER_NAME = Kind(
    "lower-case letters and underscores, as PostgreSQL spells its settings", _read_parameter_name
)
PARAMETER_VALUE = Kind("text, a number, true or false", _read_parameter)
REGION = Kind("the code of a region", _read_region)
RESOURCE = _matching(
    "lower-case letters, digits and underscores, beginning with a letter", r"[a-z][a-z0-9_]*"
)
TEXT = Kind("text", _string)
URL_PATH = _matching("a path that begins with / and has no spaces", r"/[!-~]*")
WITNESS = Kind('the code of a region, or "none"', _read_witness)
