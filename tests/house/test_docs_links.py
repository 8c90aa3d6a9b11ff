"""Every relative link of every page leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HIDDEN = {".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", "node_modules"}


def pages() -> list[Path]:
    """Return every page of the repository."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    return sorted(path for path in found if not HIDDEN & set(path.parts))


def without_code(text: str) -> str:
    """Return a page's prose: in code, brackets are no links."""
    return re.sub(
        r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    )


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


def dead(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere."""
    links = re.findall(r"\]\(([^)\s]+)\)", without_code((ROOT / page).read_text("utf-8")))
    missing = []
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / page).parent / file if file else ROOT / page
        lost = not target.exists() or not target.resolve().is_relative_to(ROOT)
        if lost or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            missing.append(link)
    return missing


@pytest.mark.parametrize("page", pages(), ids=str)
def test_every_relative_link_of_a_page_leads_to_what_exists(page: Path) -> None:
    assert dead(page) == []


def test_the_pages_of_the_repository_are_found() -> None:
    assert Path("README.md") in pages()


def test_a_note_on_a_decision_is_short_and_says_what_followed() -> None:
    notes = sorted((ROOT / "docs" / "decisions").glob("2*.md"))
    texts = {note.name: note.read_text("utf-8") for note in notes}
    parts = ("Status: ", "## Context", "## Decision", "## Consequences")
    assert {
        name for name, text in texts.items() if not all(part in text for part in parts)
    } == set()
    assert {name for name, text in texts.items() if len(text.splitlines()) > 40} == set()
