"""What the command says before anything is played."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from viral_engine.cli.drill import drill
from viral_engine.operations.drills.repertoire import shipped


def test_the_list_names_every_story_with_its_sentence() -> None:
    done = CliRunner().invoke(drill, ["--list"])
    assert done.exit_code == 0
    for story in shipped().values():
        assert story.name in done.output
        assert story.sentence in done.output
    told = json.loads(CliRunner().invoke(drill, ["--list", "--json"]).output)
    assert [one["drill"] for one in told] == list(shipped())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Which drill?"),
        (["blackhole"], "There is no drill 'blackhole'."),
        (["noop", "--report", "nowhere/out.html"], "There is no folder"),
        (["noop", "--duration", "soon"], "no length of time"),
        (["noop", "--duration", "5s"], "5s is too short"),
        (["noop", "--rate", "0"], "0.0 is not in the range"),
        (["noop", "--vus", "1"], "1 is not in the range"),
    ],
)
def test_bad_words_are_a_misuse_and_told_with_a_remedy(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    done = CliRunner().invoke(drill, [*arguments, "--home", str(tmp_path)])
    assert done.exit_code == 2
    assert said in done.output


def test_without_a_globe_there_is_none_to_drill(tmp_path: Path) -> None:
    done = CliRunner().invoke(drill, ["noop", "--json", "--home", str(tmp_path)])
    assert done.exit_code == 1
    assert json.loads(done.output)["error"]["kind"] == "NotRunningError"


def test_while_a_drill_is_under_way_the_second_is_refused_with_who_is_first(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with (tmp_path / "drill.lock").open("a") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        first.write("viral drill all by ann@desk, since noon")
        first.flush()
        done = CliRunner().invoke(drill, ["noop", "--json", "--home", str(tmp_path)])
    said = json.loads(done.output)["error"]
    assert (done.exit_code, said["kind"]) == (1, "OtherOperatorError")
    assert "viral drill all by ann@desk" in said["message"]
