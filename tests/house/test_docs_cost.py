"""The page about costs is written from the prices and assumptions that the estimate stands on."""

from __future__ import annotations

from pathlib import Path

from viral_engine.operations.cost.page import cost_page
from viral_engine.topology.prices import prices

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cost.md"


def test_the_page_about_costs_is_fresh() -> None:
    assert PAGE.read_text("utf-8") == cost_page(prices()), "write it again with: make docs"
