"""In which order the suite runs, and how two workers share it where ``pytest -n 2`` starts them."""

from __future__ import annotations

import signal

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

GLOBES = "tests/globe/"


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives a worker one file after the other, and all files of globes as if they were one.

    A file's fixtures are then made once, and one globe runs at a time.
    """

    def _split_scope(self, nodeid: str) -> str:
        return GLOBES if nodeid.startswith(GLOBES) else nodeid.partition("::")[0]


def pytest_configure() -> None:
    """Let what a test starts be interrupted: begun in the background, or by a worker, it would not be."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """Share the tests by file."""
    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the globes come last, or first where two workers run; all of a mode together.

    They take as long as all the rest, which the other worker does meanwhile, the quick ones first.
    """
    globes = sorted((one for one in items if one.nodeid.startswith(GLOBES)), key=_mode)
    others = [one for one in items if not one.nodeid.startswith(GLOBES)]
    items[:] = [*globes, *others] if hasattr(config, "workerinput") else [*others, *globes]


def _mode(item: pytest.Item) -> int:
    callspec = getattr(item, "callspec", None)
    mode = callspec.params.get("globe") if callspec else None
    return {"flat": 1, "wan": 2}.get(mode or "", 0)
