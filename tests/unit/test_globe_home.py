"""The data folder is claimed by one deployment, used by one globe, and deleted by nobody else."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from viral_engine.errors import (
    AlreadyRunningError,
    DataFolderError,
    MisuseError,
    NotRunningError,
)
from viral_engine.globe.home import (
    LAYOUT,
    Manifest,
    claim,
    keep_network,
    kept_block,
    locked,
    purge,
    read_run_file,
    write_run_file,
)
from viral_engine.globe.network.addresses import AddressPlan, NetworkMode

MINE = Manifest(LAYOUT, "shop", "iad", ("iad", "lhr"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    claim(folder, MINE)
    return folder


def test_a_folder_is_claimed_once_and_again_by_the_same_deployment(home: Path) -> None:
    claim(home, MINE)
    assert home.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("app", "other", "app shop; asked for was other"),
        ("primary_region", "lhr", "primary_region iad"),
        ("regions", ("iad", "nrt"), "regions iad,lhr; asked for was iad,nrt"),
    ],
)
def test_another_deployment_is_refused_by_name(
    home: Path, field: str, value: object, said: str
) -> None:
    with pytest.raises(DataFolderError, match=said):
        claim(home, replace(MINE, **{field: value}))  # type: ignore[arg-type]  # one field a case


def test_a_folder_of_a_later_version_says_so_whatever_else_is_in_it(home: Path) -> None:
    later = {"layout": LAYOUT + 1, "app": "shop", "areas": [], "new": True}
    (home / "globe.json").write_text(json.dumps(later))
    with pytest.raises(DataFolderError, match=f"another version .layout {LAYOUT + 1}"):
        claim(home, MINE)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '"x"', "{}", '{"layout": 1}'])
def test_a_folder_that_cannot_be_read_is_refused_with_a_remedy(home: Path, text: str) -> None:
    (home / "globe.json").write_text(text)
    with pytest.raises(DataFolderError) as refused:
        claim(home, MINE)
    assert "--purge" in refused.value.suggestion


def test_somebody_elses_folder_is_neither_claimed_nor_deleted(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(DataFolderError, match=r"thesis\.txt"):
        claim(tmp_path, MINE)
    with pytest.raises(MisuseError):
        purge(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(DataFolderError, match="cannot be made"):
        claim(tmp_path / "home", MINE)


def test_one_globe_holds_a_folder_and_nobody_deletes_it_meanwhile(home: Path) -> None:
    with locked(home):
        with pytest.raises(AlreadyRunningError), locked(home):
            pass
        with pytest.raises(AlreadyRunningError):
            purge(home)
        assert (home / "globe.json").exists()
    purge(home)
    assert not home.exists()


def test_the_network_of_a_folder_is_remembered_and_does_not_change_its_kind(home: Path) -> None:
    assert kept_block(home) == 0
    keep_network(home, AddressPlan(NetworkMode.FLAT, ("iad",), 99))
    assert kept_block(home) == 99
    with pytest.raises(DataFolderError, match="live in the flat network, not in wan"):
        keep_network(home, AddressPlan(NetworkMode.WAN, ("iad",)))
    assert kept_block(home) == 99


@pytest.mark.parametrize("text", ["", "[]", '{"mode": "flat"}', '{"mode": "flat", "block": "x"}'])
def test_a_network_that_cannot_be_read_is_an_error_of_ours(home: Path, text: str) -> None:
    (home / "network.json").write_text(text)
    with pytest.raises(DataFolderError, match="cannot be read"):
        kept_block(home)


def test_the_run_file_is_the_owners_only_and_read_back(home: Path) -> None:
    with locked(home):
        write_run_file(home, {"pid": os.getpid(), "token": "t"})
        assert (home / "run.json").stat().st_mode & 0o777 == 0o600
        assert read_run_file(home)["token"] == "t"
        assert not (home / "run.new").exists()


def test_what_a_killed_globe_left_is_not_believed_even_if_its_pid_lives_again(home: Path) -> None:
    with locked(home):
        write_run_file(home, {"pid": os.getpid(), "token": "t"})
    with pytest.raises(NotRunningError):
        read_run_file(home)
    with locked(home):
        assert not (home / "run.json").exists()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"pid": "x"}', '{"pid": null}', '{"pid": 2147483600}']
)
def test_a_run_file_of_nobody_means_that_nothing_runs(home: Path, text: str) -> None:
    (home / "run.json").write_text(text)
    with pytest.raises(NotRunningError):
        read_run_file(home)
