"""Stories one after the other: what cannot be judged is unknown, and a fault of ours is no verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from viral_engine.errors import MisuseError, OperationError, RefusedError, UnsupportedError
from viral_engine.operations.drills import series
from viral_engine.operations.drills.conclusion import unplayed
from viral_engine.operations.drills.drill import Rig
from viral_engine.operations.drills.options import Options
from viral_engine.operations.drills.repertoire import shipped
from viral_engine.operations.drills.result import Result
from viral_engine.operations.drills.series import play_all
from viral_engine.operations.drills.story import Story
from viral_engine.operations.drills.verdict import Ruling

STORIES = shipped()
CHOSEN = [STORIES["noop"], STORIES["switchover"], STORIES["lag"]]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    nothing = cast("Any", None)
    return Rig(nothing, {}, nothing, tmp_path, tmp_path, nothing, nothing, {})


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> dict[str, Exception]:
    """How each story ends, by its name; without an entry it is played."""
    found: dict[str, Exception] = {}

    async def play(story: Story, options: Options, rig: Rig) -> Result:
        assert rig.folder.name == story.name
        if story.name in found:
            raise found[story.name]
        return unplayed(story, options, "played")

    monkeypatch.setattr(series, "play", play)
    return found


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (RefusedError("no witness"), "no witness"),
        (UnsupportedError("it is flat"), "it is flat"),
        (OperationError("k6 ended"), "it did not come to its end: k6 ended"),
        (
            ExceptionGroup("", [OperationError("a"), ExceptionGroup("", [OperationError("b")])]),
            "it did not come to its end: a; b",
        ),
    ],
)
async def test_a_story_that_cannot_be_judged_is_unknown_and_the_next_is_played(
    rig: Rig, ends: dict[str, Exception], end: Exception, why: str
) -> None:
    ends["switchover"] = end
    results = await play_all(CHOSEN, STORIES, Options(), rig)
    assert [one.why for one in results] == ["played", why, "played"]
    assert {one.verdict for one in results} == {Ruling.UNKNOWN}


async def test_a_deployment_that_is_not_well_from_the_start_is_refused(
    rig: Rig, ends: dict[str, Exception]
) -> None:
    ends["noop"] = RefusedError("not well")
    with pytest.raises(RefusedError, match="not well"):
        await play_all(CHOSEN, STORIES, Options(), rig)


@pytest.mark.parametrize(
    "bug", [KeyError("x"), ExceptionGroup("", [OperationError("a"), KeyError("x")])]
)
async def test_a_fault_of_our_own_is_not_called_unknown(
    rig: Rig, ends: dict[str, Exception], bug: Exception
) -> None:
    ends["switchover"] = bug
    with pytest.raises((KeyError, ExceptionGroup)):
        await play_all(CHOSEN, STORIES, Options(), rig)


async def test_a_duration_that_is_too_short_for_one_is_refused_before_the_first(
    rig: Rig, ends: dict[str, Exception]
) -> None:
    ends["noop"] = AssertionError("it was played")
    with pytest.raises(MisuseError, match="lag does not fit into 20 s"):
        await play_all([STORIES["noop"], STORIES["lag"]], STORIES, Options(seconds=20), rig)
