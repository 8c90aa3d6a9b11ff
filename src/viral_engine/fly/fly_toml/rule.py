"""What a rule about fly.toml is: words for people, and one pure function that finds what breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from viral_engine.fly.fly_toml.file import FlyToml
from viral_engine.topology.lines import KeyPath

__all__ = ["Fault", "Finding", "Rule", "Severity", "TomlRule"]


class Severity(StrEnum):
    """How bad it is: refused, dropped or not what was meant; or worth a second thought."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Fault:
    """A place that breaks a rule, and what is wrong there.

    ``missing`` is what a whole file must have, and a part of one need not.
    """

    path: KeyPath
    problem: str
    missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule: what is forbidden (``title``), why, what to write instead, and who says so."""

    code: str
    severity: Severity
    title: str
    why: str
    fix: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TomlRule(Rule):
    """A rule about fly.toml."""

    find: Callable[[FlyToml], Iterator[Fault]]


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that a place breaks; ``line`` is None for what is nowhere in the file."""

    rule: Rule
    line: int | None
    path: str
    problem: str

    @property
    def is_error(self) -> bool:
        """Whether it must not stay so."""
        return self.rule.severity is Severity.ERROR
