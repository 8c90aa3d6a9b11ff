"""A deployment as machines: pure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viral_engine.operations.blueprint import Addresses, Blueprint, apps, places
from viral_engine.operations.secrets import Secrets
from viral_engine.topology.model import (
    Check,
    Deployment,
    RegionPlan,
    Service,
    default_deployment,
)
from viral_engine.topology.overrides import with_overrides

MARKS = Secrets("su:/@per", "repl", "a/p@p:é", "ca%che#", "sign")


def blueprint(
    deployment: Deployment, secrets: Secrets = MARKS, host: str = "10.0.0.{}"
) -> Blueprint:
    def by_region(role: str) -> dict[str, str]:
        wanted = places(deployment)
        return {p.region: host.format(n) for n, p in enumerate(wanted) if p.role == role}

    primary = {code: f"10.9.0.{n}" for n, code in enumerate(deployment.region_codes)}
    addresses = Addresses(by_region("database"), by_region("witness"), by_region("cache"), primary)
    return Blueprint(deployment, secrets, addresses, "image:1", "app-folder", {"EXTRA": "1"})


def test_the_default_deployment_is_the_guides_picture() -> None:
    wanted = places(default_deployment())
    counted = [(p.region, p.role) for p in wanted]
    assert counted.count(("iad", "app")) == 2
    assert counted.count(("lhr", "app")) == 3
    for role in ("database", "cache"):
        assert [r for r, kind in counted if kind == role] == ["iad", "lhr"]
    (witness,) = (p for p in wanted if p.role == "witness")
    assert witness.region not in ("iad", "lhr")
    assert {p.app for p in wanted} == set(apps(default_deployment()))


def test_names_are_unique_and_apps_come_last() -> None:
    wanted = places(default_deployment())
    assert len({p.name for p in wanted}) == len(wanted)
    roles = [p.role for p in wanted]
    assert roles.index("app") > max(n for n, role in enumerate(roles) if role != "app")


@given(st.lists(st.sampled_from(["iad", "lhr", "nrt", "fra", "syd"]), min_size=1, unique=True))
def test_the_votes_are_odd_so_that_there_is_a_majority(codes: list[str]) -> None:
    deployment = with_overrides(default_deployment(), regions=codes, primary=codes[0])
    made = blueprint(deployment)
    place = next(p for p in places(deployment) if p.role == "database")
    env = made.config(place, "vol_1").env
    members = dict(member.split("=") for member in env["VIRAL_ETCD_MEMBERS"].split(","))
    assert len(members) % 2 == 1
    assert members.keys() <= set(deployment.all_codes)
    assert codes[0] in members


@pytest.mark.parametrize("role", ["database", "witness", "cache", "app"])
def test_every_machine_knows_its_cluster_and_has_a_check_and_a_polite_end(role: str) -> None:
    deployment = default_deployment()
    place = next(p for p in places(deployment) if p.role == role)
    config = blueprint(deployment).config(place, "vol_1" if place.volume_gb else None)
    assert config.init.cmd == ("viral", "node", role)
    assert (config.env["PRIMARY_REGION"], config.env["EXTRA"]) == ("iad", "1")
    assert config.metadata["fly_process_group"] == role
    assert config.checks or config.services[0].checks
    assert config.stop_config.signal == "SIGTERM"
    assert [mount.volume for mount in config.mounts] == (["vol_1"] if place.volume_gb else [])


@given(st.text(min_size=1, max_size=20).filter(lambda t: t < "\ud800" or t > "\udfff"))
def test_any_password_stands_in_a_url_and_comes_out_as_it_was(password: str) -> None:
    try:
        password.encode()
    except UnicodeEncodeError:
        return
    secrets = replace(MARKS, app_password=password, cache_password=password)
    deployment = default_deployment()
    place = next(p for p in places(deployment) if p.role == "app")
    env = blueprint(deployment, secrets).config(place, None).env
    for name in ("DATABASE_URL", "REDIS_URL", "READ_REPLICA_LHR_URL"):
        url = urlsplit(env[name])
        assert unquote(url.password or "") == password
        assert url.hostname is not None
        assert url.hostname.startswith("10.")


def test_an_app_reads_at_home_and_writes_to_the_address_that_follows_the_primary() -> None:
    deployment = default_deployment()
    made = blueprint(deployment)
    place = next(p for p in places(deployment) if (p.role, p.region) == ("app", "lhr"))
    env = made.config(place, None).env
    assert urlsplit(env["DATABASE_URL"]).hostname == made.addresses.primary["lhr"]
    assert urlsplit(env["READ_REPLICA_LHR_URL"]).hostname == made.addresses.database["lhr"]
    assert env["REDIS_URL"] == env["REDIS_LHR_URL"] != env["REDIS_IAD_URL"]


def test_an_app_never_gets_the_passwords_that_are_not_its_own() -> None:
    deployment = default_deployment()
    for place in places(deployment):
        made = blueprint(deployment)
        env = {**made.config(place, None).env, **made.app_secrets()[place.app]}
        text = " ".join(env.values())
        assert (MARKS.superuser_password in text) == (place.role in ("database", "witness"))
        assert (MARKS.signing_key in env.values()) == (place.role == "app")


def test_new_secrets_make_a_machine_start_again_and_are_not_told_by_it() -> None:
    deployment = default_deployment()
    place = next(p for p in places(deployment) if p.role == "cache")
    before = blueprint(deployment).config(place, None)
    after = blueprint(deployment, replace(MARKS, cache_password="new")).config(place, None)
    others = blueprint(deployment, replace(MARKS, signing_key="new")).config(place, None)
    assert before == others != after
    assert MARKS.cache_password not in str(before)


def test_the_migrations_have_the_environment_of_an_app_and_no_users() -> None:
    config = blueprint(default_deployment()).migration()
    assert config.init.cmd == ("viral", "node", "migrate")
    assert config.env["DATABASE_URL"].startswith("postgresql://")
    assert (config.services, config.metadata["fly_process_group"]) == ((), "migrate")


def test_what_the_platform_promises_cannot_be_overridden_by_the_services_environment() -> None:
    service = Service(env={"PORT": "1", "DATABASE_URL": "x", "VIRAL_SECRET": "x", "MINE": "yes"})
    deployment = replace(default_deployment(), service=service)
    place = next(p for p in places(deployment) if p.role == "app")
    env = blueprint(deployment).config(place, None).env
    assert (env["PORT"], env["MINE"]) == ("8080", "yes")
    assert env["DATABASE_URL"].startswith("postgresql://")


@pytest.mark.parametrize(
    ("app", "path", "kind"),
    [
        ("viral_engine.service.app:app", "/api/health", "http"),
        ("shop:app", "/api/health", "tcp"),
        ("shop:app", "/up", "http"),
    ],
)
def test_somebody_elses_app_is_asked_only_what_was_declared_for_it(
    app: str, path: str, kind: str
) -> None:
    service = Service(app=app, check=Check(path=path))
    deployment = replace(default_deployment(), service=service)
    place = next(p for p in places(deployment) if p.role == "app")
    assert blueprint(deployment).config(place, None).services[0].checks[0].type == kind


def test_ipv6_addresses_stand_in_brackets() -> None:
    deployment = default_deployment()
    place = next(p for p in places(deployment) if p.role == "app")
    env = blueprint(deployment, host="fdaa::{}").config(place, None).env
    assert "@[fdaa::" in env["REDIS_URL"]


def test_as_many_apps_run_as_the_region_wants_at_least() -> None:
    plans = (RegionPlan(code="iad", min=0, max=5), RegionPlan(code="lhr", min=4, max=5))
    deployment = replace(default_deployment(), regions=plans)
    found = [p.name for p in places(deployment) if p.role == "app"]
    assert found == [f"app-lhr-{n}" for n in range(1, 5)]


def test_secrets_are_made_once_kept_and_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    made = Secrets.kept_in(path)
    assert Secrets.kept_in(path) == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    assert repr(made) == "Secrets()"
    assert Secrets.make() != made
