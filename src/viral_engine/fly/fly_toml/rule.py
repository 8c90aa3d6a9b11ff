"""What a rule about fly.toml is: words for people, and one pure function that finds what breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from viral_engine.fly.fly_toml.file import FlyToml
from viral_engine.topology.lines import KeyPath

__all__ = ["Fault", "Rule", "Severity"]


class Severity(StrEnum):
    """How bad it is: refused, dropped or not what was meant; or worth a second thought."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Fault:
    """A place that breaks a rule, and what is wrong there."""

    path: KeyPath
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule: what is forbidden (``title``), why, what to write instead, and who says so."""

    code: str
    severity: Severity
    title: str
    why: str
    fix: str
    source: str
    find: Callable[[FlyToml], Iterator[Fault]]
