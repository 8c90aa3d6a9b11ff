"""What is typed for a rollout is refused before anything is asked of a platform."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from viral_engine.cli.main import viral


def typed(home: Path, *words: str) -> Result:
    return CliRunner().invoke(viral, ["rollout", "--home", str(home), *words])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--yes"], "Nothing to roll out was named"),
        (["--yes", "--env", "=1"], "sets no variable"),
        (["--yes", "--env", "REDIS_URL=x"], "set by the platform"),
        (["--yes", "--image", "a", "--waves", "iad/iad"], "are no waves"),
        (["--yes", "--image", "a", "--max-error-rate", "0"], "is not a share"),
        (["--yes", "--image", "a", "--max-error-rate", "120%"], "is not a share"),
        (["--yes", "--image", "a", "--max-p95", "fast"], "is not a duration"),
        (["--yes", "--image", "a", "--strategy", "big-bang"], "is not one of"),
        (["--image", "a"], "Nobody is there to be asked"),
        (["--back"], "Nobody is there to be asked"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_exit_code_2(
    tmp_path: Path, words: list[str], said: str
) -> None:
    done = typed(tmp_path, *words)
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.output.split())


def test_without_a_globe_it_fails_with_a_remedy_also_for_programs(tmp_path: Path) -> None:
    done = typed(tmp_path, "--image", "a", "--yes", "--json")
    assert done.exit_code == 1
    error = json.loads(done.stdout)["error"]
    assert (error["kind"], "viral up" in error["suggestion"]) == ("NotRunningError", True)
