"""What ``viral verify`` says of a globe that is well, and of one that is not."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from tests.globe.conftest import GlobeUnderTest

from viral_engine.clock import NotYet, wait_until
from viral_engine.fly.client import FlyClient
from viral_engine.operations.verifying import Inside
from viral_engine.operations.verifying.asks import Ask

pytestmark = pytest.mark.long

SOON = timedelta(seconds=60)


def checks(globe: GlobeUnderTest, *args: str, code: int) -> list[dict[str, Any]]:
    result = globe.viral("verify", "--json", *args)
    assert result.code == code, result.out + result.err
    found: list[dict[str, Any]] = result.json["checks"]
    return found


async def protected(globe: GlobeUnderTest) -> None:
    """Wait for what comes a moment after the start: another region that confirms each commit."""

    def seen() -> bool | NotYet:
        facts = globe.status()
        return facts["protection"] == "two-regions" or NotYet(str(facts["protection_reasons"]))

    await wait_until(seen, timeout=SOON, waiting_for="two regions to hold the data")


async def test_a_globe_that_is_well_keeps_everything_that_can_be_seen_on_it(
    globe: GlobeUnderTest,
) -> None:
    await protected(globe)
    found = checks(globe, code=0)
    assert [one["check"] for one in found if one["ruling"] != "kept"] == ["certificate"]
    by = {(one["check"], one["region"]): one for one in found}
    assert by["eventual read", "lhr"]["answered_by"] == "lhr"
    for asked in ("strong read", "write"):
        assert by[asked, "lhr"]["answered_by"] == "iad"
        assert by[asked, "lhr"]["route"].startswith("local; reason=primary-here")
    assert by["replay", "lhr"]["seen"] == "2 of 2 were brought there"
    assert by["token of iad", "lhr"]["seen"] == "it read what it wrote"
    if globe.is_wan:
        assert by["eventual read", "lhr"]["latency_ms"] < by["write", "lhr"]["latency_ms"]
    assert globe.viral("verify", "--strict").code == 1  # a globe issues no certificates


async def test_only_what_was_asked_for_is_asked_and_nothing_is_written(
    globe: GlobeUnderTest,
) -> None:
    await protected(globe)
    found = checks(globe, "--region", "lhr", "--no-write", code=0)
    asked = {one["check"] for one in found if one["latency_ms"] is not None}
    assert asked == {"eventual read", "strong read"}
    assert {one["region"] for one in found if one["latency_ms"] is not None} == {"lhr"}
    assert globe.viral("verify", "--region", "syd").code == 2


async def test_users_are_asked_for_also_from_inside_a_machine_as_it_is_done_on_fly(
    globe: GlobeUnderTest,
) -> None:
    if globe.is_wan:
        pytest.skip("here a machine's network does not lead to the doors of users")
    machine = next(m for m in globe.status()["machines"] if m["name"] == "app-lhr-1")
    facts = json.loads((globe.home / "run.json").read_text())
    edge = globe.ready["addresses"]["edges"]["lhr"]
    asks = [Ask("GET", "/api/tasks?limit=1"), Ask("GET", "/api/nothing")]
    async with FlyClient(facts["addresses"]["api"], facts["token"]) as client:
        inside = Inside(client, machine["app"], {"lhr": machine["id"]}, edge)
        found = await inside.ask("lhr", asks)
        nowhere = await inside.ask("iad", asks)
    assert [(one.status, one.region) for one in found] == [(200, "lhr"), (404, "lhr")]
    assert found[0].route == "local; reason=replica"
    assert all("no machine" in one.error for one in nowhere)


async def test_a_machine_that_does_not_run_is_broken_and_its_region_is_served_elsewhere(
    globe: GlobeUnderTest,
) -> None:
    assert globe.viral("stop", "app-lhr-1", "--yes").code == 0
    try:
        broken = [one for one in checks(globe, code=1) if one["ruling"] == "broken"]
        assert [(one["check"], one["seen"][:7]) for one in broken] == [("app-lhr-1", "stopped")]
    finally:
        assert globe.viral("start", "app-lhr-1").code == 0

    def well() -> bool | NotYet:
        result = globe.viral("verify", "--json")
        return result.code == 0 or NotYet(result.out)

    await wait_until(well, timeout=SOON, waiting_for="the machine to be well again")
