"""Durations as the Machines API writes them: ``"15s"``, ``"1m30s"``, or whole nanoseconds."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")

LONGEST = timedelta(days=365).total_seconds()
"""Seconds; nothing of the wire lasts longer, and larger numbers would overflow."""


def parse_duration(value: object) -> timedelta:
    """Read a duration of the wire, at most a year; raises ValueError that shows what is allowed."""
    seconds = -1.0
    match value:
        case timedelta():
            return value
        case bool():
            pass
        case int() | float() if 0 <= value <= LONGEST * 1e9:
            seconds = value / 1e9
        case str() if value and _PART.sub("", value) == "":
            parts = _PART.findall(value)
            seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if 0 <= seconds <= LONGEST:
        return timedelta(seconds=seconds)
    raise ValueError(f"{value!r} is not a duration; write it as 15s, 1m30s or 500ms")


def format_duration(value: timedelta) -> str:
    """Write a duration in seconds, else milliseconds, else microseconds: what keeps it whole."""
    microseconds = value // timedelta(microseconds=1)
    for unit, size in (("s", 1_000_000), ("ms", 1000)):
        if microseconds % size == 0:
            return f"{microseconds // size}{unit}"
    return f"{microseconds}us"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
]
