"""The page about drills has a row for every story, with what it breaks and what it wants."""

from __future__ import annotations

import re
from pathlib import Path

from viral_engine.operations.drills.repertoire import shipped
from viral_engine.operations.drills.story import Expect, Story

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "drills.md").read_text("utf-8")
MOVES = {"yes": "the primary moves", "no": "it stays", "either": "it may move"}


def wanted(expect: Expect) -> str:
    said = [MOVES[expect.moves]]
    if expect.write_gap_s is not None:
        said.append(f"writes again within {expect.write_gap_s:g} s")
    if expect.failed == 0:
        said.append("no request fails")
    if expect.share is not None:
        said.append(f"below {expect.share:.0%} of requests fail")
    return "; ".join(said)


def row(story: Story) -> str:
    faults = ", ".join(map(str, story.catalogue))
    return f"| `{story.name}` | {story.sentence} | {faults} | {wanted(story.expect)} |"


def test_every_story_has_its_row_and_there_is_no_other() -> None:
    begin = PAGE.index("| drill | what happens |")
    table = PAGE[begin : PAGE.index("\n\n", begin)].splitlines()[2:]
    assert table == [row(story) for story in shipped().values()]


def test_every_fault_that_the_page_calls_covered_is_in_a_story() -> None:
    begin = PAGE.index("| catalogue | covered |")
    rows = PAGE[begin : PAGE.index("\n\n", begin)].splitlines()[2:]
    covered = [line for line in rows if line.rsplit("|", 2)[1].strip().startswith("yes")]
    told = {int(number) for line in covered for number in re.findall(r"(\d+) [a-zA-Z]", line)}
    assert told == {number for story in shipped().values() for number in story.catalogue}


def test_every_story_says_how_long_there_may_be_no_write() -> None:
    assert [s.name for s in shipped().values() if s.expect.write_gap_s is None] == []
