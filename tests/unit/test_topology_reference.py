"""The annotated reference file says what the code does, key by key."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from viral_engine.topology.load import parse
from viral_engine.topology.model import (
    Cache,
    Check,
    Database,
    Deployment,
    Guest,
    RegionPlan,
    Service,
    default_deployment,
)
from viral_engine.topology.reference import reference_text
from viral_engine.topology.schema import KEYS

MODEL = {
    (): Deployment,
    ("regions", "*"): RegionPlan,
    ("regions", "*", "guest"): Guest,
    ("database",): Database,
    ("cache",): Cache,
    ("service",): Service,
    ("service", "check"): Check,
}
PLURAL = {("regions",), ("consistency",), ("database", "parameters"), ("service", "env")}


def leaves(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in table.items():
        here = (*path, "*" if path in PLURAL else name)
        if isinstance(value, dict):
            yield from leaves(value, here)
        else:
            yield here


def documented() -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
    """Yield each key that has a comment of its own, with its default and what is allowed."""
    table: tuple[str, ...] = ()
    for block in reference_text().split("\n\n"):
        facts = dict(re.findall(r"^# (Default|Allowed): (.*)$", block, re.MULTILINE))
        if header := re.search(r"^\[(.*)\]$", block, re.MULTILINE):
            table = tuple(header[1].split("."))
        pair = re.search(r"^(\w+) = ", block, re.MULTILINE)
        if facts and pair and header is None:
            yield next(leaves(nested((*table, pair[1])))), facts


def nested(path: tuple[str, ...]) -> dict[str, Any]:
    return {path[0]: nested(path[1:]) if path[1:] else 0}


def test_the_reference_file_loads_and_means_the_default_but_for_its_examples() -> None:
    loaded = parse(reference_text())
    plain = dataclasses.replace(
        loaded,
        database=dataclasses.replace(loaded.database, parameters={}),
        service=dataclasses.replace(loaded.service, env={}),
    )
    assert plain == default_deployment()


def test_every_key_stands_in_the_file_and_every_key_of_the_file_is_known() -> None:
    assert set(leaves(tomllib.loads(reference_text()))) == set(KEYS)


def test_every_key_is_explained_once() -> None:
    explained = [path for path, _ in documented()]
    assert sorted(explained) == sorted(KEYS)


@pytest.mark.parametrize(("path", "facts"), [*documented()], ids=lambda value: str(value)[:40])
def test_what_the_file_says_is_allowed_is_what_is_checked(
    path: tuple[str, ...], facts: dict[str, str]
) -> None:
    assert facts["Allowed"] == KEYS[path].allowed


@pytest.mark.parametrize(("path", "facts"), [*documented()], ids=lambda value: str(value)[:40])
def test_a_default_that_is_a_value_is_the_one_of_the_model(
    path: tuple[str, ...], facts: dict[str, str]
) -> None:
    try:
        written = tomllib.loads(f"x = {facts['Default']}")["x"]
    except tomllib.TOMLDecodeError:
        return  # the default is a sentence
    table, name = path[:-1], path[-1]
    fields = {field.name: field for field in dataclasses.fields(MODEL[table])}
    default = fields[name].default
    if default is dataclasses.MISSING:
        default = getattr(default_deployment(), name)
    assert KEYS[path].read(written) == default


def test_the_model_holds_exactly_the_keys_of_the_file() -> None:
    computed = {("regions", "*", "code")}
    tables = {*MODEL, *PLURAL}
    held = {
        (*table, field.name)
        for table, model in MODEL.items()
        for field in dataclasses.fields(model)
    }
    assert held - computed - tables == {path for path in KEYS if path[:-1] not in PLURAL}
