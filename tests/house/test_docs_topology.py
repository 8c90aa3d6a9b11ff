"""The page about viral.toml is written from the annotated file that the code itself reads."""

from __future__ import annotations

from pathlib import Path

from viral_engine.topology.reference import reference_page, reference_text

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "viral.toml.md"


def test_the_page_about_the_deployment_file_is_fresh() -> None:
    fresh = reference_page(reference_text())
    assert PAGE.read_text(encoding="utf-8") == fresh, "write it again with: make docs"
