"""Durations as the Machines API writes them: ``"15s"``, ``"1m30s"``, or whole nanoseconds."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")


def parse_duration(value: object) -> timedelta:
    """Read a duration of the wire; raises ValueError that shows what is allowed."""
    match value:
        case timedelta():
            return value
        case bool():
            pass
        case int() | float():
            return timedelta(seconds=value / 1e9)
        case str() if value and _PART.sub("", value) == "":
            parts = _PART.findall(value)
            return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))
    raise ValueError(f"{value!r} is not a duration; write it as 15s, 1m30s or 500ms")


def format_duration(value: timedelta) -> str:
    """Write a duration with the largest unit that keeps it whole."""
    milliseconds = round(value.total_seconds() * 1000)
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
]
