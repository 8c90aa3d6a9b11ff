"""The documentation page about fly.toml, written from the rules themselves.

The page is written by ``python -m viral_engine.fly.runbook.page docs/reference/fly.toml.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from viral_engine.fly.fly_toml.rule import Rule
from viral_engine.fly.runbook.lint import RULES

__all__ = ["rules_page"]

_INTRO = """\
# fly.toml

<!-- Written from the rules in src/viral_engine/fly/ by `make docs`. Change them there. -->

`viral render fly.toml` writes the file for a deployment; `viral lint fly.toml` holds any such file against the
rules below ([commands](commands.md)). `viral lint guide.md` reads a guide: its blocks of fly.toml, of commands and of
SQL; `viral lint drill.sh` and `lag.sql` a script and a query. An **error** is refused or dropped by the platform, or is
not what was meant; a **warning** is worth a second thought in a deployment of many regions. What fly.toml has no place
for, such as machines by region, is said in [viral.toml](viral.toml.md).

`fly deploy` updates every machine that there is by this file, makes none in a new region, and its order knows no regions.

| rule | | what it forbids |
| --- | --- | --- |
"""


def rules_page(rules: Iterable[Rule]) -> str:
    """Return the page, in Markdown: a table of the rules, then each with its reason and source."""
    rules = tuple(rules)
    rows = "".join(
        f"| [{rule.code}](#{rule.code.lower()}) | {rule.severity} | {_cell(rule.title)} |\n"
        for rule in rules
    )
    return f"{_INTRO}{rows}\n" + "\n".join(map(_section, rules))


def _section(rule: Rule) -> str:
    return (
        f"## {rule.code}\n\n**{rule.title}** ({rule.severity}). {rule.why}\n\n"
        f"- **Instead:** {rule.fix}\n- **Source:** {rule.source}\n"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(rules_page(RULES), encoding="utf-8")
