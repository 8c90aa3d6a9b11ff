"""Bad input is refused with a remedy and the right exit code, and leaves no half-started globe."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.globe.conftest import GlobeUnderTest, globe_in


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[GlobeUnderTest]:
    """A data folder in which nothing runs."""
    with globe_in(tmp_path / "home") as globe:
        yield globe


def refused(globe: GlobeUnderTest, *args: str, **env: str) -> tuple[int, str, str]:
    """The exit code, message and remedy of a refused ``up``; nothing may run afterwards."""
    result = globe.viral("up", "--json", *args, timeout=120, **env)
    assert globe.processes() == []
    assert not (globe.home / "run.json").exists()
    said = json.loads(result.out.splitlines()[-1])["error"]
    return result.code, said["message"], said["suggestion"]


def test_a_region_that_is_none_names_the_nearest(empty: GlobeUnderTest) -> None:
    code, message, remedy = refused(empty, "--regions", "iad,lrh")
    assert code == 2
    assert "lrh" in message
    assert "lhr" in message + remedy


def test_a_primary_that_is_not_among_the_regions_is_refused(empty: GlobeUnderTest) -> None:
    code, message, remedy = refused(empty, "--regions", "lhr,nrt")
    assert (code, "not among the regions" in message, "--primary" in remedy) == (2, True, True)


def test_a_port_that_is_taken_is_said_before_anything_starts(empty: GlobeUnderTest) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, message, remedy = refused(empty, "--network", "flat", "--port", str(port))
    assert (code, str(port) in message, "--port" in remedy) == (1, True, True)


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with globe_in(tmp_path) as globe:
        code, message, remedy = refused(globe)
        assert (code, "thesis.txt" in message, "VIRAL_HOME" in remedy) == (1, True, True)
        assert globe.viral("down", "--purge").code != 0
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("layout", 99, "another version"),
        ("app", "other", "another deployment"),
        ("regions", ["iad", "nrt", "yyz"], "another deployment"),
    ],
)
def test_a_data_folder_of_somebody_else_is_left_alone(
    empty: GlobeUnderTest, field: str, value: object, said: str
) -> None:
    manifest = {"layout": 1, "app": "viral-engine", "primary_region": "iad",
                "regions": ["iad", "lhr", "yyz"], field: value}  # fmt: skip
    empty.home.mkdir()
    (empty.home / "globe.json").write_text(json.dumps(manifest))
    code, message, remedy = refused(empty)
    assert (code, said in message, "VIRAL_HOME" in remedy) == (1, True, True)
    assert json.loads((empty.home / "globe.json").read_text()) == manifest


def test_an_app_that_cannot_be_imported_is_refused_before_anything_starts(
    empty: GlobeUnderTest,
) -> None:
    code, message, _ = refused(empty, "--app", "no_such_module:app")
    assert (code, "no_such_module" in message) == (2, True)
    code, message, remedy = refused(empty, "--app", "nonsense")
    assert (code, "module:attribute" in message, "--app" in remedy) == (2, True, True)


def test_a_missing_engine_is_named_with_what_to_install(empty: GlobeUnderTest) -> None:
    code, message, remedy = refused(empty, VIRAL_ENGINES="path", PATH="/nonexistent")
    assert (code, "not on PATH" in message, bool(remedy)) == (1, True, True)


def test_near_and_users_must_be_regions(empty: GlobeUnderTest) -> None:
    assert refused(empty, "--near", "syd")[0] == 2
    assert refused(empty, "--users", "xyz")[0] == 2


def test_a_faulty_file_lists_every_fault(empty: GlobeUnderTest, tmp_path: Path) -> None:
    file = tmp_path / "viral.toml"
    file.write_text(
        'app = "x"\nprimary_region = "iad"\ncolour = 1\n[regions.lrh]\n[regions.iad]\nmin = -1\n'
    )
    code, message, _ = refused(empty, "--file", str(file))
    assert code == 2
    for part in ("colour", "lrh", "min"):
        assert part in message


@pytest.mark.timeout(240)
def test_an_app_that_crashes_when_it_starts_is_shown_with_its_last_words(
    empty: GlobeUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crashing.py").write_text(
        "import os\n"
        "if os.environ.get('FLY_MACHINE_ID'):\n"
        "    raise RuntimeError('the settings are wrong')\n"
        "async def app(scope, receive, send): ...\n"
    )
    monkeypatch.chdir(tmp_path)
    code, message, remedy = refused(empty, "--app", "crashing:app", "--network", "flat")
    assert code == 1
    assert "does not stay up" in message
    assert "the settings are wrong" in message
    assert "viral logs" in remedy


def test_commands_without_a_globe_say_how_to_start_one(empty: GlobeUnderTest) -> None:
    for command in (["status"], ["machines"], ["logs"], ["down"], ["exec", "iad", "--", "true"]):
        result = empty.viral(*command)
        assert result.code == 1, command
        assert "viral up" in result.err, command


def test_what_is_not_a_command_is_misuse(empty: GlobeUnderTest) -> None:
    assert empty.viral("upp").code == 2
    assert empty.viral("up", "--colour").code == 2
