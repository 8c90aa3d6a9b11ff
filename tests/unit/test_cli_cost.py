"""``viral cost``: what it prints, refuses and ends with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from viral_engine.cli.main import viral

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "commands.md").read_text("utf-8")


def run(*args: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(viral, ["cost", *args], env=env, catch_exceptions=False)


def said(*args: str) -> dict[str, Any]:
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    made: dict[str, Any] = json.loads(result.stdout)
    return made


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_people_get_a_table_that_adds_up_and_what_it_stands_on() -> None:
    result = run()
    assert result.exit_code == 0
    rows = {row.split()[0]: row.split()[-1] for row in result.stdout.splitlines() if row}
    assert (rows["iad"], rows["lhr"], rows["yyz"]) == ("$25.33", "$35.48", "$2.60")
    assert "$63.41 a month" in result.stdout
    assert "as read on 2026-10-09" in result.stdout
    assert "requests_per_second=5" in result.stdout


def test_what_if_says_the_difference() -> None:
    made = said("--with", "syd=1", "--size", "shared-cpu-1x")
    assert made["what_if"]["before"] == said()["total"] == 63.41
    assert made["what_if"]["difference"] == pytest.approx(made["total"] - 63.41)
    assert made["by_region"].keys() == {"iad", "lhr", "syd", "none"}
    assert said()["what_if"] is None
    assert "less than as declared ($63.41)" in run("--size", "shared-cpu-1x").stdout


def test_a_budget_decides_how_it_ends() -> None:
    assert said("--budget", "63.41")["budget"] == {"limit": 63.41, "left": 0.0, "within": True}
    above = run("--budget", "$63.40", "--json")
    assert (above.exit_code, json.loads(above.stdout)["budget"]["within"]) == (1, False)
    assert "$0.01 above the budget" in run("--budget", "63.4").stdout
    assert run("--budget", "63.40", "--assume", "requests_per_second=0").exit_code == 0


def test_the_file_says_what_is_estimated(folder: Path) -> None:
    (folder / "viral.toml").write_text('app = "shop"\n[regions.fra]\n', "utf-8")
    assert said()["app"] == "shop"
    (folder / "other.toml").write_text('app = "other"\n[regions.iad]\nmax = 3\n', "utf-8")
    made = said("--file", "other.toml")
    assert made["app"] == "other"
    assert made["total_at_max"] == pytest.approx(made["total"] + 2 * 6.70, abs=0.011)


def test_the_keys_for_programs_are_those_of_the_page() -> None:
    (row,) = re.findall(r"^\| `cost --json` \| (.*)$", PAGE, re.MULTILINE)
    made = said("--with", "syd=1", "--budget", "500")
    keys = {*made, *made["lines"][0], *made["what_if"], *made["budget"], *made["suggestions"][0]}
    assert keys | set(made["prices"][0]) | {"none", "difference", "lines"} == set(
        re.findall(r"`(\w+)`", row)
    )


@pytest.mark.parametrize(
    "args",
    [
        ["--with", "syd=-1"], ["--with", "xyz=1"], ["--without", "iad"], ["--size", "huge"],
        ["--assume", "luck=1"], ["--budget", "-5"], ["--budget", "lots"], ["--file", "none.toml"],
    ],
)  # fmt: skip
def test_bad_input_is_misuse_with_a_remedy(args: list[str]) -> None:
    result = run(*args, "--json")
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert error["message"]
    assert error["suggestion"]


def test_what_there_really_is_needs_a_platform(folder: Path) -> None:
    result = run("--actual", "--home", str(folder / "none"), "--json")
    assert (result.exit_code, "viral up" in result.stdout) == (1, True)
    nobody = {"FLY_API_TOKEN": "", "FLY_ACCESS_TOKEN": ""}
    result = run("--actual", "--to", "fly", "--json", env=nobody)
    assert (result.exit_code, "FLY_API_TOKEN" in result.stdout) == (2, True)
    result = run("--to", "fly", "--json", env={"FLY_API_TOKEN": "x"})
    assert (result.exit_code, "--actual --to fly" in result.stdout) == (2, True)
