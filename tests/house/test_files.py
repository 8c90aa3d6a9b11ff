"""The files of the repository: their size, what must not be left in them, what must be told."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "tests", "docs", "examples", "bench", "tools", ".ci")
LONGEST = 450
TEXT = {".py", ".toml", ".md", ".sql", ".json", ".js", ".lua", ".html", ".css", ".sh", ".yml", ""}


def files() -> list[Path]:
    """Return every text file that belongs to the repository; uv.lock is the tool's own."""
    inside = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    top = [path for path in ROOT.glob("*") if path.name not in {"LICENSE", "uv.lock"}]
    top = [path for path in top if not path.name.startswith(".")]
    return sorted(
        path
        for path in [*inside, *top]
        if path.is_file() and path.suffix in TEXT and "__pycache__" not in path.parts
    )


def places(pattern: str) -> list[str]:
    compiled = re.compile(pattern)
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if compiled.search(line)
    ]


def test_no_module_is_longer_than_can_be_read_in_one_go() -> None:
    counted = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in files()
        if path.suffix == ".py"
    }
    assert {name: lines for name, lines in counted.items() if lines > LONGEST} == {}


def test_no_two_files_of_tests_have_one_name() -> None:
    # pytest collects the second of them not at all, and says so only where both are collected.
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_nothing_is_left_for_later_in_the_text() -> None:
    assert places(r"\b(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError") == []


def test_no_path_of_somebodys_own_machine_is_named() -> None:
    assert places(r"(?<![\w.}/])/(work|root|home|Users)/\w|(?<![\w.])/tmp/\w+/\w") == []


def test_no_room_or_module_is_a_drawer_for_odds_and_ends() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "misc", "core", "base"}
    assert [str(path) for path in files() if drawers & {path.stem, path.parent.name}] == []


def test_every_dependency_has_a_reason_and_every_reason_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    required = [
        *project["project"]["dependencies"],
        *(one for extra in project["project"]["optional-dependencies"].values() for one in extra),
        *project["dependency-groups"]["dev"],
        *project["build-system"]["requires"],
    ]
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in required}  # type: ignore[index]  # a requirement begins with a name
    table = (ROOT / "docs" / "decisions" / "dependencies.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)) == names


def test_every_lint_exception_in_the_settings_has_its_reason() -> None:
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    ignored = re.search(r"^ignore = \[\n(.*?)^\]", settings, re.MULTILINE | re.DOTALL)
    assert ignored is not None
    assert [line for line in ignored[1].splitlines() if "#" not in line] == []


def test_the_name_of_a_test_is_a_sentence() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(
            r"^\s*(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
        if name.count("_") < 3
    ]
    assert found == []
