"""The page about the platform lists the calls that are served and the tests that keep to its ids."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

from starlette.routing import Route

from viral_engine.globe.api.extension import ExtensionCalls
from viral_engine.globe.api.refusals import Refusals
from viral_engine.globe.api.routes import machines_api
from viral_engine.globe.network.links import FaultKind
from viral_engine.globe.platform import Platform

ROOT = Path(__file__).parents[2]
CONTRACT = {
    "A": 4,
    "M": 20,
    "W": 3,
    "L": 4,
    "S": 1,
    "R": 1,
    "K": 2,
    "G": 1,
    "D": 2,
    "F": 2,
    "P": 28,
}
"""How many rules of each kind there are; numbers are never used again."""

PAGE = (ROOT / "docs" / "reference" / "platform.md").read_text("utf-8")


def served() -> list[Route]:
    """Return every route of the API; none of them is called."""
    platform = cast("Platform", None)
    nothing = cast("ExtensionCalls", None)
    return [
        *machines_api(platform),
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
        set(re.findall(r"^\| `((?:GET|POST|PUT|PATCH|DELETE) [^`]+)` \|", PAGE, re.MULTILINE))
        == methods
    )


def named_by_an_id() -> set[str]:
    """Return the names of all tests that carry an id of the contract."""
    return {
        name
        for room in ("unit", "services")
        for path in (ROOT / "tests" / room).glob("test_*.py")
        for name in re.findall(
            r"^(?:async )?def (test_[a-qs-z]\d\d_\w+)", path.read_text("utf-8"), re.MULTILINE
        )
    }


def ids_of(test: str) -> set[str]:
    """Return the ids that a test's name begins with."""
    begins = re.match(r"test((?:_[a-z]\d\d)+)_", test)
    assert begins is not None
    return {f"{one[0].upper()}-{one[1:]}" for one in begins[1].strip("_").split("_")}


def test_every_id_of_the_contract_is_kept_kept_in_part_or_not_there_and_why() -> None:
    rows = re.findall(r"^\| ([A-Z]-\d\d) \| (.+?) \| (.*?)\| (.*?)\|$", PAGE, re.MULTILINE)
    wanted = [f"{kind}-{n:02d}" for kind, last in CONTRACT.items() for n in range(1, last + 1)]
    assert [row[0] for row in rows] == wanted
    for one, kept, tests, why in rows:
        assert kept in {"yes", "in part", "no"}, one
        assert (kept == "yes") <= bool(tests.strip()), f"{one} is kept, and no test says so"
        assert (kept == "no") <= (not tests.strip()), f"{one} is not there, and has a test"
        assert (kept != "yes") <= bool(why.strip()), f"{one} does not say what differs"


def test_every_test_with_an_id_is_on_the_page_at_its_id_and_no_other() -> None:
    rows = re.findall(r"^\| ([A-Z]-\d\d) \| (.*)$", PAGE, re.MULTILINE)
    said = {
        (one, test) for one, rest in rows for test in re.findall(r"`(test_[a-z]\d\d_\w+)`", rest)
    }
    assert said == {(one, test) for test in named_by_an_id() for one in ids_of(test)}


def test_every_fault_is_on_the_page_and_no_other() -> None:
    table = PAGE.split("## Faults\n")[1].split("\n## ")[0]
    said = set(re.findall(r"^\| `([a-z-]+) ", table, re.MULTILINE))
    assert said == {*FaultKind, "pause", "kill", "outage"}
