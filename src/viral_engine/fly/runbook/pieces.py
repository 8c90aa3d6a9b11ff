"""A text as pieces of one language each: a script whole, a guide by its fenced blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Piece", "pieces"]

SHELLS = {"bash", "sh", "shell", "zsh", "console", "shell-session"}
LANGUAGES = {".sh": "shell", ".bash": "shell", ".sql": "sql", ".toml": "toml"}
GUIDES = {".md", ".markdown"}

_FENCE = re.compile(r"^([ \t]*)(```+|~~~+)[ \t]*([\w+-]*)")
_PROMPT = re.compile(r"^\s*\$ ")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text in one language; ``first`` is its first line in the text, from 1."""

    language: str
    first: int
    text: str

    def commands(self) -> Iterator[tuple[int, str]]:
        """Yield the commands of a shell's piece with their lines; a continued one is one."""
        start, parts = 0, list[str]()
        for number, line in enumerate(self.text.splitlines(), start=self.first):
            bare = _PROMPT.sub("", line).strip()
            if not parts and (not bare or bare.startswith("#")):
                continue
            start = start if parts else number
            parts.append(bare.removesuffix("\\").strip())
            if not bare.endswith("\\"):
                yield start, " ".join(parts)
                parts = []
        if parts:
            yield start, " ".join(parts)


def pieces(text: str, suffix: str) -> Iterator[Piece]:
    """Yield the pieces of a text by the suffix of its file; any other suffix counts as TOML."""
    if suffix.lower() in GUIDES:
        yield from _fenced(text)
    else:
        yield Piece(LANGUAGES.get(suffix.lower(), "toml"), 1, text)


def _fenced(text: str) -> Iterator[Piece]:
    fence, indent, language, first, lines = "", "", "", 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        match = _FENCE.match(line)
        if fence and match and match[2].startswith(fence) and not match[3]:
            yield Piece(language, first, "\n".join(lines))
            fence = ""
        elif fence:
            lines.append(line.removeprefix(indent))
        elif match:
            indent, fence, language = match[1], match[2], match[3].lower()
            language = "shell" if language in SHELLS else language
            first, lines = number + 1, []
