"""Every rule held against a file."""

from __future__ import annotations

from viral_engine.fly.fly_toml.file import FlyToml
from viral_engine.fly.fly_toml.rule import Finding, TomlRule
from viral_engine.fly.fly_toml.rules_checks import CHECK_RULES
from viral_engine.fly.fly_toml.rules_keys import KEY_RULES
from viral_engine.fly.fly_toml.rules_machines import MACHINE_RULES
from viral_engine.fly.fly_toml.rules_services import SERVICE_RULES

__all__ = ["TOML_RULES", "lint"]

TOML_RULES: tuple[TomlRule, ...] = tuple(
    sorted((*KEY_RULES, *SERVICE_RULES, *CHECK_RULES, *MACHINE_RULES), key=lambda rule: rule.code)
)
"""All rules, by their codes, each of which stays what it is."""


def lint(text: str, *, source: str = "fly.toml", whole: bool = True) -> tuple[Finding, ...]:
    """Return everything that is wrong with a file, in the order of its lines.

    Of a text that is not ``whole`` nothing is demanded that may stand elsewhere in the file. Raises
    MisuseError that names the line for text that is not TOML.
    """
    file = FlyToml.parse(text, source=source)
    found = [
        Finding(rule, file.line(fault.path), _dotted(fault.path), fault.problem)
        for rule in TOML_RULES
        for fault in rule.find(file)
        if whole or not fault.missing
    ]
    return tuple(sorted(found, key=lambda one: (one.line or 0, one.rule.code, one.path)))


def _dotted(path: tuple[str | int, ...]) -> str:
    """Write a path as people do, with the number of a table only behind the first one of an array."""
    words = [f"#{part + 1}" if isinstance(part, int) else part for part in path]
    return ".".join(word for word in words if word != "#1")
