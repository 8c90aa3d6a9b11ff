"""On which line of a TOML text each key stands: what the parser knows and does not tell."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping

__all__ = ["KeyPath", "key_lines", "line_of"]

KeyPath = tuple[str | int, ...]
"""Names of keys; behind the name of an array of tables the number of the table in it, from 0."""

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*')"""
_KEY = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_HEADER = re.compile(rf"[ \t]*(\[\[?)[ \t]*({_KEY})[ \t]*\]")
_PAIR = re.compile(rf"[ \t]*({_KEY})[ \t]*=")
_TOKEN = re.compile(r'''"""|\'\'\'|"(?:\\.|[^"\\])*"|'[^']*'|#.*|[\[\]{}]''')
_CLOSING = {'"""': re.compile(r'(?:\\.|[^\\])*?"""'), "'''": re.compile(r".*?'''")}


def key_lines(text: str) -> Mapping[KeyPath, int]:
    """Return the first line, from 1, of every key and table of a text that is valid TOML.

    The keys of an inline table are not listed: they stand on the line of the table.
    """
    found: dict[KeyPath, int] = {}
    last: dict[KeyPath, int] = {}  # of each array of tables the number of its last one
    table: KeyPath = ()
    state = _State()
    for number, line in enumerate(text.split("\n"), start=1):
        if state.between_values:
            if header := _HEADER.match(line):
                table = _table(_parts(header[2]), last, begins=header[1] == "[[")
                _note(found, table, number)
                continue
            if pair := _PAIR.match(line):
                _note(found, (*table, *_parts(pair[1])), number)
                state.feed(line, pair.end())
            continue
        state.feed(line, 0)
    return found


def line_of(path: KeyPath, lines: Mapping[KeyPath, int]) -> int | None:
    """Return the line of a key, else of the closest table around it that is written out."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path)


def _table(parts: tuple[str, ...], last: dict[KeyPath, int], *, begins: bool) -> KeyPath:
    """Return where a header leads: into the last table of each array, or to the one it begins."""
    path: KeyPath = ()
    for depth, part in enumerate(parts, start=1):
        path = (*path, part)
        if begins and depth == len(parts):
            last[path] = last.get(path, -1) + 1
        if path in last:
            path = (*path, last[path])
    return path


def _note(found: dict[KeyPath, int], path: KeyPath, number: int) -> None:
    for length in range(1, len(path) + 1):
        found.setdefault(path[:length], number)


def _parts(dotted: str) -> tuple[str, ...]:
    """Split a dotted key by the parser's own rules for quotes and escapes."""
    parts: list[str] = []
    inner: object = tomllib.loads(f"{dotted} = 0")
    while isinstance(inner, dict):
        ((part, inner),) = inner.items()
        parts.append(part)
    return tuple(parts)


class _State:
    """Whether a line begins between two values, or inside one that spans lines."""

    def __init__(self) -> None:
        self._depth = 0
        self._quote = ""

    @property
    def between_values(self) -> bool:
        return not self._depth and not self._quote

    def feed(self, line: str, start: int) -> None:
        """Take in the rest of a line, from ``start``."""
        while start < len(line):
            pattern = _CLOSING[self._quote] if self._quote else _TOKEN
            match = pattern.match(line, start) if self._quote else pattern.search(line, start)
            if match is None:
                return
            start = match.end()
            token = "" if self._quote else match[0]
            self._quote = token if token in _CLOSING else ""
            self._depth += (token in {"[", "{"}) - (token in {"]", "}"})
