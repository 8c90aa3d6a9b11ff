"""Every rule held against a text, whatever it is: fly.toml, a guide, a script, a query."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePath

from viral_engine.fly.fly_toml.lint import TOML_RULES, lint
from viral_engine.fly.fly_toml.rule import Finding, Rule
from viral_engine.fly.runbook.pieces import Piece, pieces
from viral_engine.fly.runbook.rules import TEXT_RULES

__all__ = ["RULES", "lint_text"]

RULES: tuple[Rule, ...] = (*TOML_RULES, *TEXT_RULES)
"""All rules there are."""

OF_THE_PLATFORM = {"http_service", "services", "vm", "mounts", "processes", "statics"}
"""Tables by which a block of a guide is known as a part of fly.toml, and not of another file."""


def lint_text(text: str, source: str) -> tuple[Finding, ...]:
    """Return everything that is wrong with a text, in the order of its lines.

    ``source`` is its file's name: by its suffix it is a guide, a script, a query, or else fly.toml.
    Raises MisuseError that names the line for a fly.toml that is not TOML.
    """
    suffix = PurePath(source).suffix
    parts = list(pieces(text, suffix))
    if parts and parts[0].language == "toml" and parts[0].text == text:
        return lint(text, source=source)
    found = [finding for part in parts for finding in _judged(part)]
    return tuple(sorted(found, key=lambda one: (one.line or 0, one.rule.code)))


def _judged(piece: Piece) -> Iterator[Finding]:
    if piece.language == "toml":
        yield from _toml(piece)
    for rule in TEXT_RULES:
        if rule.language == piece.language:
            for line, problem in rule.find(piece):
                yield Finding(rule, line, "", problem)


def _toml(piece: Piece) -> Iterator[Finding]:
    """Judge a block of a guide, where it is one of fly.toml; it need not be the whole file."""
    try:
        names = tomllib.loads(piece.text).keys()
    except tomllib.TOMLDecodeError:
        return  # a guide may leave something out
    if names & OF_THE_PLATFORM:
        whole = {"app", "primary_region"} <= names
        for finding in lint(piece.text, whole=whole):
            yield replace(finding, line=piece.first + (finding.line or 1) - 1)
