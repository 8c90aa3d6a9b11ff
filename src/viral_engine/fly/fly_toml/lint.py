"""Every rule held against a file."""

from __future__ import annotations

from dataclasses import dataclass

from viral_engine.fly.fly_toml.file import FlyToml
from viral_engine.fly.fly_toml.rule import Rule, Severity
from viral_engine.fly.fly_toml.rules_keys import KEY_RULES
from viral_engine.fly.fly_toml.rules_machines import MACHINE_RULES
from viral_engine.fly.fly_toml.rules_services import SERVICE_RULES

__all__ = ["RULES", "Finding", "lint"]

RULES: tuple[Rule, ...] = tuple(
    sorted((*KEY_RULES, *SERVICE_RULES, *MACHINE_RULES), key=lambda rule: rule.code)
)
"""All rules, by their codes, each of which stays what it is."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that a place breaks; ``line`` is None for what is nowhere in the file."""

    rule: Rule
    line: int | None
    path: str
    problem: str

    @property
    def is_error(self) -> bool:
        """Whether the file must not stay so."""
        return self.rule.severity is Severity.ERROR


def lint(text: str, *, source: str = "fly.toml") -> tuple[Finding, ...]:
    """Return everything that is wrong with a file, in the order of its lines.

    Raises MisuseError that names the line for text that is not TOML.
    """
    file = FlyToml.parse(text, source=source)
    found = [
        Finding(rule, file.line(fault.path), _dotted(fault.path), fault.problem)
        for rule in RULES
        for fault in rule.find(file)
    ]
    return tuple(sorted(found, key=lambda one: (one.line or 0, one.rule.code, one.path)))


def _dotted(path: tuple[str | int, ...]) -> str:
    """Write a path as people do, with the number of a table only behind the first one of an array."""
    words = [f"#{part + 1}" if isinstance(part, int) else part for part in path]
    return ".".join(word for word in words if word != "#1")
