"""Databases and caches that somebody else runs: no machine of ours, and their addresses from outside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from viral_engine.cli.main import viral
from viral_engine.operations.blueprint import NOWHERE, Blueprint, apps, places
from viral_engine.operations.cost.inventory import declared
from viral_engine.operations.deploy import Found, FoundApp, diff
from viral_engine.operations.fly_file import fly_file
from viral_engine.operations.secrets import Secrets
from viral_engine.topology.load import parse
from viral_engine.topology.model import Deployment
from viral_engine.topology.overrides import with_overrides

BOTH = parse('[database]\nprovider = "external"\n[cache]\nprovider = "external"')
CACHE = parse('[cache]\nprovider = "external"')


def blueprint(deployment: Deployment, **external: str) -> Blueprint:
    primary = dict.fromkeys(deployment.region_codes, "10.9.0.1")
    return Blueprint(
        deployment, Secrets.make(), replace(NOWHERE, primary=primary), "image:1", "folder", {}, external
    )  # fmt: skip


def test_what_somebody_else_runs_has_no_machine_no_secret_and_no_price() -> None:
    assert {place.role for place in places(BOTH)} == {"app"}
    assert {place.role for place in places(CACHE)} == {"app", "database", "witness"}
    assert {kept.role for kept in declared(BOTH).machines} == {"app"}
    assert not declared(BOTH).volumes
    assert set(blueprint(BOTH).app_secrets()) == {"viral-engine"}
    assert set(blueprint(CACHE).app_secrets()) == {"viral-engine", "viral-engine-db"}


def test_without_databases_of_ours_nobody_votes() -> None:
    assert BOTH.witness is None
    assert with_overrides(BOTH, regions=("iad", "lhr", "nrt", "syd")).witness is None
    assert with_overrides(CACHE, regions=("iad", "nrt")).witness is not None


def test_an_app_gets_the_addresses_that_were_said_and_none_that_leads_nowhere() -> None:
    place = next(p for p in places(BOTH) if p.role == "app")
    urls = {"DATABASE_URL": "postgres://db", "REDIS_URL": "rediss://cache"}
    env = blueprint(BOTH, **urls).config(place, None).env
    assert {name: env[name] for name in urls} == urls
    silent = blueprint(BOTH).config(place, None).env
    assert not {name for name in silent if name.startswith(("DATABASE", "REDIS", "READ_"))}
    own = blueprint(CACHE, REDIS_URL="rediss://cache").config(place, None).env
    assert own["DATABASE_URL"].startswith("postgresql://viral_app:")
    assert own["REDIS_URL"] == "rediss://cache"


def test_a_plan_makes_no_app_for_them_and_says_which_secret_is_missing() -> None:
    plan = diff(blueprint(BOTH), Found())
    assert [change.app for change in plan.changes if change.kind == "create-app"] == [
        "viral-engine"
    ]
    assert not [c for c in plan.changes if c.kind == "create-volume"]
    missing = [note for note in plan.notes if "fly secrets set" in note]
    assert [note.split()[4] for note in missing] == ["DATABASE_URL", "REDIS_URL"]
    set_by_hand = {"DATABASE_URL": "x", "REDIS_URL": "y"}
    found = Found({"viral-engine": FoundApp(secrets=set_by_hand)})
    assert not [n for n in diff(blueprint(BOTH), found).notes if "fly secrets set" in n]
    assert not [
        n for n in diff(blueprint(BOTH, **set_by_hand), Found()).notes if "secrets set" in n
    ]


def test_a_rendered_file_names_the_secrets_and_no_app_that_is_not_there() -> None:
    text = " ".join(fly_file(BOTH).replace("#", " ").split())
    assert "DATABASE_URL, REDIS_URL, VIRAL_SECRET" in text
    assert "apps of their own" not in text
    assert "apps of their own (viral-engine-db)" in " ".join(
        fly_file(CACHE).replace("#", " ").split()
    )
    assert apps(BOTH)[0] == "viral-engine"


def test_up_says_which_address_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    file = tmp_path / "viral.toml"
    file.write_text('[cache]\nprovider = "external"')
    done = CliRunner().invoke(viral, ["up", "--file", str(file), "--dry-run"])
    assert done.exit_code == 2
    assert "REDIS_URL" in done.output
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:6379/0")
    done = CliRunner().invoke(viral, ["up", "--file", str(file), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "cache" not in done.output
