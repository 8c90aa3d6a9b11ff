"""``viral lint``: what is wrong with a fly.toml, why, and what to write instead."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from viral_engine.cli.output import command_errors, console, json_option, print_json
from viral_engine.errors import MisuseError
from viral_engine.fly.fly_toml import Finding
from viral_engine.fly.runbook import lint_text

COLOURS = {"error": "red", "warning": "yellow"}


@click.command(name="lint")
@click.argument("path", type=click.Path(path_type=Path), default=Path("fly.toml"))
@json_option
@command_errors
def lint_(path: Path, as_json: bool) -> None:
    """Say what is wrong with a fly.toml, and why; exit 1 when something is an error."""
    findings = lint_text(_read(path), str(path))
    if as_json:
        print_json(_document(path, findings))
    else:
        _show(path, findings)
    if any(finding.is_error for finding in findings):
        raise click.exceptions.Exit(1)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise MisuseError(
            f"{path} cannot be read: {error.strerror}",
            suggestion="Write one with: viral render fly.toml --out fly.toml",
        ) from error
    except UnicodeDecodeError as error:
        raise MisuseError(f"{path} is not UTF-8 text") from error


def _counts(findings: Sequence[Finding]) -> tuple[int, int]:
    errors = sum(finding.is_error for finding in findings)
    return errors, len(findings) - errors


def _document(path: Path, findings: Sequence[Finding]) -> dict[str, object]:
    errors, warnings = _counts(findings)
    return {
        "file": str(path),
        "errors": errors,
        "warnings": warnings,
        "findings": [
            {
                "rule": one.rule.code,
                "severity": one.rule.severity.value,
                "line": one.line,
                "path": one.path,
                "problem": one.problem,
                "why": one.rule.why,
                "fix": one.rule.fix,
                "source": one.rule.source,
            }
            for one in findings
        ],
    }


def _show(path: Path, findings: Sequence[Finding]) -> None:
    screen = console(err=False)
    for one in findings:
        place = f"{path}:{one.line}" if one.line else str(path)
        screen.print(f"{place}: ", end="", markup=False)
        screen.print(
            f"[{COLOURS[one.rule.severity]}]{one.rule.severity}[/] {one.rule.code}", end=" "
        )
        screen.print(one.problem, markup=False)
        screen.print(f"    why  {one.rule.why}\n    fix  {one.rule.fix}", markup=False)
    errors, warnings = _counts(findings)
    said = ", ".join(
        f"{count} {noun}{'' if count == 1 else 's'}"
        for count, noun in ((errors, "error"), (warnings, "warning"))
    )
    screen.print(f"{path}: {said if findings else 'nothing is wrong with it'}", markup=False)
