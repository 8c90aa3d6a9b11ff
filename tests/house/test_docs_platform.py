"""The page about the platform lists the calls that are served and the tests that keep to its ids."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

from starlette.routing import Route

from viral_engine.globe.api.apps import AppCalls
from viral_engine.globe.api.extension import ExtensionCalls
from viral_engine.globe.api.leases import LeaseCalls
from viral_engine.globe.api.machines import MachineCalls
from viral_engine.globe.api.refusals import Refusals
from viral_engine.globe.api.settings import SettingsCalls
from viral_engine.globe.network.links import FaultKind
from viral_engine.globe.platform import Platform

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "platform.md").read_text("utf-8")


def served() -> list[Route]:
    """Return every route of the API; none of them is called."""
    platform = cast("Platform", None)
    nothing = cast("ExtensionCalls", None)
    return [
        *AppCalls(platform).routes(),
        *MachineCalls(platform).routes(),
        *LeaseCalls(platform).routes(),
        *SettingsCalls(platform).routes(),
        *Refusals().routes(),
        *ExtensionCalls.routes(ExtensionCalls(*[nothing] * 5)),  # type: ignore[arg-type]  # as above
    ]


def test_every_call_of_the_platform_is_on_the_page_and_no_other() -> None:
    methods = {
        f"{method} {route.path}"
        for route in served()
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert (
        set(re.findall(r"^\| `((?:GET|POST|PUT|DELETE) [^`]+)` \|", PAGE, re.MULTILINE)) == methods
    )


def test_every_test_with_an_id_is_on_the_page_and_no_other() -> None:
    found = {
        name
        for path in (ROOT / "tests" / "services").glob("test_*.py")
        for name in re.findall(
            r"^async def (test_[a-qs-z]\d\d_\w+)", path.read_text("utf-8"), re.MULTILINE
        )
    }
    assert set(re.findall(r"`(test_[a-z]\d\d_\w+)`", PAGE)) == found


def test_an_id_is_not_both_kept_and_still_to_come() -> None:
    to_come = set(re.findall(r"\b([A-Z]-\d\d)\b", PAGE.split("\nNot yet: ")[1].split("\n\n")[0]))
    kept = set(re.findall(r"^\| ([A-Z]-\d\d)", PAGE, re.MULTILINE))
    assert to_come & kept == set()


def test_every_fault_is_on_the_page_and_no_other() -> None:
    table = PAGE.split("## Faults\n")[1].split("\n## ")[0]
    said = set(re.findall(r"^\| `([a-z-]+) ", table, re.MULTILINE))
    assert said == {*FaultKind, "pause", "kill", "outage"}
