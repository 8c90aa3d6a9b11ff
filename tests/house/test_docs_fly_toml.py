"""The page about fly.toml is written from the rules that the linter holds a file against."""

from __future__ import annotations

from pathlib import Path

from viral_engine.fly.runbook import RULES, lint_text
from viral_engine.fly.runbook.page import rules_page

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "fly.toml.md"


def test_the_page_about_the_platforms_file_is_fresh() -> None:
    assert PAGE.read_text("utf-8") == rules_page(RULES), "write it again with: make docs"


def test_every_rule_has_its_reason_and_its_source_on_the_page() -> None:
    text = PAGE.read_text("utf-8")
    assert [rule.code for rule in RULES if rule.why not in text or rule.source not in text] == []


def test_no_page_of_ours_says_what_our_own_rules_forbid() -> None:
    root = PAGE.parents[2]
    pages = [root / "README.md", *(root / "docs").rglob("*.md"), *(root / "examples").rglob("*.md")]
    found = {
        f"{page.name}:{one.line}": one.rule.code
        for page in pages
        for one in lint_text(page.read_text("utf-8"), page.name)
    }
    assert found == {}
