"""Commands that start nothing: plans, refusals, exit codes, and JSON for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from viral_engine import __version__
from viral_engine.cli import output
from viral_engine.cli.main import COMMANDS, viral
from viral_engine.errors import MisuseError


def run(*args: str, home: Path | None = None) -> Result:
    env = {"VIRAL_HOME": str(home)} if home else {}
    return CliRunner().invoke(viral, list(args), env=env, catch_exceptions=False)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder: no viral.toml of anybody's is read."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def error_of(result: Result) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(result.stdout)["error"]
    return said


def test_a_dry_run_shows_every_machine_and_makes_nothing(folder: Path) -> None:
    result = run("up", "--dry-run", "--json", home=folder / "home")
    rows = json.loads(result.stdout)["machines"]
    assert result.exit_code == 0
    assert [row["role"] for row in rows].count("app") == 5
    assert list(folder.iterdir()) == []


def test_a_dry_run_for_people_is_a_table() -> None:
    result = run("up", "--dry-run", "--regions", "iad,nrt,fra")
    assert result.exit_code == 0
    assert result.stdout.split()[:3] == ["REGION", "ROLE", "MACHINE"]
    assert {"database-nrt", "database-fra"} <= set(result.stdout.split())
    assert "witness" not in result.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--regions", "iad,lrh"], "lrh"),
        (["--regions", "iad,iad"], "twice"),
        (["--regions", "iad,,lhr"], ""),
        (["--regions", "lhr,nrt"], "not among the regions"),
        (["--primary", "nrt"], "not among the regions"),
        (["--near", "syd"], "near"),
        (["--users", "xyz"], "xyz"),
        (["--app", "no-colon"], "module:attribute"),
    ],
)
def test_misuse_is_told_as_json_with_exit_code_2(args: list[str], said: str) -> None:
    result = run("up", "--dry-run", "--json", *args)
    assert result.exit_code == 2
    error = error_of(result)
    assert said in error["message"]
    assert error["kind"].endswith("Error")


@pytest.mark.parametrize(
    "args",
    [
        ["up", "--network", "mesh"], ["up", "--port", "0"], ["up", "--port", "70000"],
        ["up", "--rtt-factor", "-1"], ["up", "--file", "none.toml", "--nothing"], ["fly"],
        ["fault", "cut", "iad"], ["fault", "delay", "much"], ["exec", "iad"],
        ["verify", "--read", "notes"], ["scale", "iad=3"], ["autoscale", "--interval", "0s"],
        ["autoscale", "--target", "1.5"], ["autoscale", "--low-for", "soon"],
    ],
)  # fmt: skip
def test_what_no_command_takes_is_misuse(args: list[str]) -> None:
    result = run(*args)
    assert (result.exit_code, "Traceback" in result.output) == (2, False)


@pytest.mark.parametrize(
    "args",
    [
        ["status"], ["machines"], ["logs"], ["down"], ["fault", "clear"],
        ["fault", "cut", "iad", "lhr"], ["fault", "pause", "m"], ["fault", "kill", "m"],
        ["verify"], ["scale"], ["scale", "iad=3", "--yes"], ["autoscale", "--once"],
    ],
)  # fmt: skip
def test_without_a_globe_a_command_fails_and_says_how_to_start_one(
    folder: Path, args: list[str]
) -> None:
    result = run(*args, "--json", home=folder / "none")
    assert result.exit_code == 1
    error = error_of(result)
    assert (error["kind"], "viral up" in error["suggestion"]) == ("NotRunningError", True)
    assert not (folder / "none").exists()


def test_nothing_but_a_data_folder_is_purged(folder: Path) -> None:
    (folder / "thesis.txt").touch()
    result = run("down", "--purge", "--json", home=folder)
    assert (result.exit_code, error_of(result)["kind"]) == (2, "MisuseError")
    assert (folder / "thesis.txt").exists()


def test_regions_are_told_without_a_globe_and_nearest_first(folder: Path) -> None:
    result = run("regions", "--near", "lhr", "--json", home=folder / "none")
    rows = json.loads(result.stdout)
    assert (result.exit_code, len(rows), rows[0]["region"]) == (0, 18, "lhr")
    assert [row["rtt_ms"] for row in rows] == sorted(row["rtt_ms"] for row in rows)
    assert run("regions", "--all", "--near", "xyz", "--json").exit_code == 2


@pytest.mark.parametrize("command", [*COMMANDS, "fault cut", "node ctl"])
def test_every_command_explains_itself(command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert "Usage: viral" in result.stdout


def test_the_version_is_the_packages() -> None:
    assert __version__ in run("--version").stdout


def test_an_error_is_shown_as_it_is_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    words = r"[red]a[/] [/nothing] \[b] C:\[x]"
    output.say_error(MisuseError(words, suggestion=f"try {words}"), as_json=False)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"Error: {words}\n  try {words}\n")


def test_a_table_shows_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("NAME",), [("[bold]a[/] [/b]",)])
    assert capsys.readouterr().out.split("\n")[1].strip() == "[bold]a[/] [/b]"
