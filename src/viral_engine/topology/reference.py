"""The annotated reference file: example, schema and documentation page in one.

The page is written by ``python -m viral_engine.topology.reference docs/reference/viral.toml.md``.
"""

from __future__ import annotations

import re
import sys
from importlib import resources
from pathlib import Path

__all__ = ["reference_page", "reference_text"]

_KEY = re.compile(r"\w+ = ")
_INTRO = """\
# viral.toml

<!-- Written from src/viral_engine/topology/reference.toml by `make docs`. Change it there. -->

`viral up` reads `viral.toml` from the folder it is called in; without one, the values below hold
but for what is said to be an example. A file with faults is refused with one report that lists
every fault, its line, and what is allowed there. Regions are listed by `viral regions`.

## At the top
"""


def reference_text() -> str:
    """Return the annotated file, which is itself a valid viral.toml."""
    return resources.files(__package__).joinpath("reference.toml").read_text(encoding="utf-8")


def reference_page(text: str) -> str:
    """Return the documentation page for an annotated file, in Markdown.

    A block is a run of lines between blank ones: a comment, then a table's name or keys. Tables
    become headings, keys become sections with their default and what is allowed.
    """
    blocks = [block.splitlines() for block in text.strip().split("\n\n")]
    sections = [_INTRO, *(_section(block) for block in blocks[1:])]
    whole = f"## The whole file\n\n```toml\n{_without_comments(text)}\n```\n"
    return "\n".join([*sections, whole])


def _section(block: list[str]) -> str:
    comments = [line.removeprefix("#").strip() for line in block if line.startswith("#")]
    body = [line for line in block if not line.startswith("#")]
    if not body[0].startswith("["):
        heading = f"### `{body[0].split(' = ')[0]}`"
    else:
        heading = f"## `{body[0]}`"
    if not comments:
        comments = ["A further one, as an example."]
    words = [line for line in comments if not line.startswith(("Default: ", "Allowed: "))]
    facts = [
        f"- **{line.split(': ', 1)[0]}:** {line.split(': ', 1)[1]}"
        for line in comments
        if line not in words
    ]
    example = [line for line in body if _KEY.match(line)]
    parts = [heading, " ".join(words)]
    if facts:
        parts.append("\n".join(facts))
    if example:
        parts.append("\n".join(["```toml", *example, "```"]))
    return "\n\n".join(parts) + "\n"


def _without_comments(text: str) -> str:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return re.sub(r"\n\[", "\n\n[", "\n".join(lines))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference_page(reference_text()), encoding="utf-8")
