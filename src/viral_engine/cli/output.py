"""How every command speaks: results to stdout, everything else to stderr, errors with a remedy."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from viral_engine.errors import ViralError

P = ParamSpec("P")
R = TypeVar("R")

WIDE = 400
"""Columns of a table that nobody looks at in a terminal."""

MARKS = {"done": "[green]✓[/]", "begun": "[dim]…[/]", "failed": "[red]✗[/]"}


def console(*, err: bool = True) -> Console:
    """A console that neither wraps addresses nor colours pipes."""
    return Console(stderr=err, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print rows under their columns, as wide as they need to be."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))  # as it is: names may have brackets
    width = None if sys.stdout.isatty() else WIDE
    Console(highlight=False, width=width).print(table)


def say_error(error: ViralError, *, as_json: bool) -> None:
    """Say what went wrong and what can be done."""
    if as_json:
        said = {"error": {"kind": type(error).__name__, "message": error.message,
                          "suggestion": error.suggestion}}  # fmt: skip
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        return
    say_failure(error.message, error.suggestion)


def say_failure(message: str, suggestion: str) -> None:
    """Say an error to people; its text may be anybody's and is shown as it is."""
    screen = console()
    screen.print("[red]Error:[/] ", end="")
    screen.print(message, markup=False)
    if suggestion:
        screen.print(f"  {suggestion}", markup=False)


def command_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Turn errors of ours into a message and the exit code that they carry."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except ViralError as error:
            say_error(error, as_json=bool(kwargs.get("as_json")))
            raise click.exceptions.Exit(error.exit_code) from error

    return guarded


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
