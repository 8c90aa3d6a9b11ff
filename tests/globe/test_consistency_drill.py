"""Strong data while the primary's region is a black hole: as its own users and all others see it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.globe.conftest import GlobeUnderTest

from viral_engine.fly.client import FlyClient
from viral_engine.operations.drills.clients import Book
from viral_engine.operations.drills.history import Kind, Outcome, Recorder, read_history
from viral_engine.operations.drills.report import primaries_of, write_gap
from viral_engine.operations.drills.stories import Stage
from viral_engine.operations.drills.stories_register import (
    BlackHolePlan,
    black_hole,
    judge_black_hole,
    stakes_of_black_hole,
)
from viral_engine.operations.drills.verdict import Ruling

HOME, AWAY = "iad", "lhr"
SHORT = BlackHolePlan(calm=timedelta(seconds=5), dark=timedelta(seconds=5))


@pytest.fixture
async def stage(wan_globe: GlobeUnderTest) -> AsyncIterator[Stage]:
    """The globe as a stage, with the primary at home again when it is left."""
    facts = json.loads((wan_globe.home / "run.json").read_text())
    addresses = facts["addresses"]
    async with FlyClient(addresses["api"], facts["token"]) as client:
        stage = Stage(client, addresses["edges"], print)
        yield stage
        if await stage.well() != HOME:
            await stage.switch_over(HOME)
            assert await stage.well() == HOME


@pytest.mark.timeout(240)
async def test_strong_data_is_linearizable_while_the_primarys_region_is_a_black_hole(
    stage: Stage, tmp_path: Path
) -> None:
    with (tmp_path / "history.jsonl").open("w") as file:
        played = await black_hole(stage, Book(Recorder(file)), SHORT, seed=1)
    history = read_history(tmp_path / "history.jsonl")
    verdict = judge_black_hole(history, played)
    assert verdict.ruling is Ruling.KEPT, [str(one) for one in verdict.findings[:3]]

    assert played.lost == HOME
    assert primaries_of(history) == [HOME, AWAY]
    stakes = stakes_of_black_hole(history, played)
    assert all(stakes.values()), stakes
    inside = [
        one
        for one in history
        if one.region_asked == HOME and played.cut_at < one.called_at < played.healed_at
    ]
    assert any(one.outcome is not Outcome.OK for one in inside if one.kind is Kind.READ)
    gap = write_gap(history, regions=frozenset({AWAY}), since=played.cut_at)
    assert gap is not None
    assert gap < 30
