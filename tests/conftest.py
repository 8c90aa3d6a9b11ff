"""How the suite is split where two workers run it: ``pytest -n 2 --dist loadgroup``."""

from __future__ import annotations

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep a file's tests together, and those of globes too: of these there is one at a time.

    The globes take as long as all the rest, so they begin first; beside them the quick ones do.
    """
    for item in items:
        is_globe = "/tests/globe/" in str(item.path)
        item.add_marker(pytest.mark.xdist_group("globe" if is_globe else str(item.path)))
    if config.getoption("dist", "no") != "no":
        items.sort(key=lambda item: "/tests/globe/" not in str(item.path))
