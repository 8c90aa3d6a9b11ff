"""The API's own description says all that it answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi import FastAPI

from viral_engine.data import Databases
from viral_engine.data.hybrid_clock import HybridClock
from viral_engine.service.resources import resource_routes

RESOURCES = {"users", "organizations", "billing", "tasks", "metrics", "audit_logs", "dashboard"}


def described() -> dict[tuple[str, str], dict[str, Any]]:
    """Return what is said of each call; none is made."""
    app = FastAPI()
    for router in resource_routes(cast("Databases", None), HybridClock("m")):
        app.include_router(router)
    return {
        (method, path): call
        for path, calls in app.openapi()["paths"].items()
        for method, call in calls.items()
    }


CALLS = described()


def test_every_route_is_under_the_name_of_its_resource() -> None:
    assert {path.split("/")[2] for _, path in CALLS} == RESOURCES
    assert {path.split("/")[1] for _, path in CALLS} == {"api"}


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_every_call_says_which_problems_it_answers(call: tuple[str, str]) -> None:
    method, path = call
    said = set(CALLS[call]["responses"])
    assert "503" in said
    if method != "get":
        assert {"409", "413", "422", "504"} <= said
    if method == "patch":
        assert {"404", "412"} <= said
    if "{" in path and method == "get" and not path.endswith(("/entries", "/accounts")):
        assert "404" in said
        assert ("304" in said) == ("metrics" not in path)


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_every_problem_is_said_to_be_one(call: tuple[str, str]) -> None:
    for status, answer in CALLS[call]["responses"].items():
        if status >= "400":
            assert set(answer["content"]) == {"application/problem+json"}, status


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_whoever_can_name_a_version_is_told_how(call: tuple[str, str]) -> None:
    headers = {one["name"] for one in CALLS[call].get("parameters", ()) if one["in"] == "header"}
    responses = CALLS[call]["responses"]
    assert headers == ({"if-match"} if "412" in responses else set()) | (
        {"if-none-match"} if "304" in responses else set()
    )
    for status in {"304", "412"} & set(responses):
        assert "etag" in responses[status]["headers"]


def test_every_call_is_on_its_page_and_no_other() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "conflicts.md"
    said = re.findall(r"^\| `([A-Z]+) (/api/[^`]+)` \|", page.read_text("utf-8"), re.MULTILINE)
    assert sorted(said) == sorted((method.upper(), path) for method, path in CALLS)
