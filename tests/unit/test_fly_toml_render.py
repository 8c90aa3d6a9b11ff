"""The fly.toml of a deployment: what it says, and that our own rules find nothing in it."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from viral_engine.cli.main import viral
from viral_engine.fly.durations import parse_duration
from viral_engine.fly.fly_toml import lint
from viral_engine.fly.fly_toml.render import AppFile, render
from viral_engine.fly.model import Guest as MachineGuest
from viral_engine.fly.model import Init, MachineConfig, StopConfig
from viral_engine.operations.blueprint import places
from viral_engine.operations.fly_file import fly_file
from viral_engine.operations.secrets import Secrets
from viral_engine.operations.sketch import sketch
from viral_engine.topology.load import parse
from viral_engine.topology.model import (
    Check,
    Deployment,
    Guest,
    Service,
    Strategy,
    default_deployment,
)
from viral_engine.topology.overrides import with_overrides
from viral_engine.topology.regions import all_regions
from viral_engine.topology.sizes import presets

DEPLOYMENTS = {
    "one region": "[regions.fra]\nmin = 2",
    "two and a witness": "",
    "two without one": 'witness = "none"',
    "three": "[regions.iad]\n[regions.lhr]\n[regions.nrt]",
    "active-passive": 'strategy = "active-passive"\nstandby = "stopped"',
    "sizes by region": '[regions.iad]\nguest = { cpu_kind = "performance", cpus = 2, memory_mb = 4096 }\n[regions.lhr]',
    "an app of one's own": '[service]\napp = "shop.main:api"',
    "one with a check": '[service]\napp = "shop.main:api"\n[service.check]\npath = "/up"\ninterval = "100ms"\ntimeout = "100ms"',
    "settings of its own": "[service]\ninternal_port = 9000\nsoft_limit = 20\nhard_limit = 30\nkill_timeout = \"2m\"\n[service.env]\nMODE = 'a \"b\" \\ é'",
}  # fmt: skip


every_deployment = pytest.mark.parametrize(
    "deployment", [parse(text) for text in DEPLOYMENTS.values()], ids=list(DEPLOYMENTS)
)


def services(raw: dict[str, Any]) -> list[dict[str, Any]]:
    short = [raw["http_service"]] if "http_service" in raw else []
    return [*short, *raw.get("services", [])]


@every_deployment
def test_no_rule_of_ours_finds_anything_in_it(deployment: Deployment) -> None:
    assert lint(fly_file(deployment)) == ()


@every_deployment
def test_it_has_one_service_with_a_hard_limit_and_a_check_that_stays_in_its_machine(
    deployment: Deployment,
) -> None:
    (service,) = services(tomllib.loads(fly_file(deployment)))
    declared = deployment.service
    assert service["internal_port"] == declared.internal_port
    assert service["concurrency"] == {
        "type": "requests", "soft_limit": declared.soft_limit, "hard_limit": declared.hard_limit,
    }  # fmt: skip
    assert (service["auto_stop_machines"], service["auto_start_machines"]) == ("off", True)
    (check,) = service.get("checks") or service["tcp_checks"]
    assert check.get("path", declared.check.path) == declared.check.path
    assert timedelta(seconds=1) <= parse_duration(check["interval"]) <= timedelta(seconds=60)


@every_deployment
def test_it_says_where_and_how_big_and_what_is_run(deployment: Deployment) -> None:
    raw = tomllib.loads(fly_file(deployment))
    primary = deployment.plan(deployment.primary_region).guest
    assert (raw["app"], raw["primary_region"]) == (deployment.app, deployment.primary_region)
    assert raw["processes"] == {"app": "viral node app"}
    (vm,) = raw["vm"]
    assert vm["memory"] == f"{primary.memory_mb}mb"
    assert vm["size"].startswith(primary.cpu_kind)
    assert vm["size"].endswith(f"-{primary.cpus}x")
    assert "mounts" not in raw
    assert parse_duration(raw["kill_timeout"]) == deployment.service.kill_timeout


@every_deployment
def test_no_secret_is_in_it_and_every_one_is_named(deployment: Deployment) -> None:
    text = fly_file(deployment)
    raw = tomllib.loads(text)
    assert not [name for name in raw["env"] if name.endswith("_URL") or "SECRET" in name]
    assert not re.search(r"\w+://", "\n".join(raw["env"].values()))
    words = set(re.findall(r"\w+", text.split("\napp = ")[0]))
    wanted = {"DATABASE_URL", "REDIS_URL", "VIRAL_SECRET"}
    wanted |= {f"READ_REPLICA_{code.upper()}_URL" for code in deployment.region_codes}
    assert wanted <= words


def test_the_image_reads_every_setting_that_the_platforms_machines_get() -> None:
    deployment = default_deployment()
    raw = tomllib.loads(fly_file(deployment))
    place = next(p for p in places(deployment) if p.role == "app")
    env = sketch(deployment).config(place, None).env
    missing = {name for name in env if name not in raw["env"]}
    assert {name for name in missing if not name.endswith("_URL")} == {
        "PRIMARY_REGION", "VIRAL_APP_DIR",
    }  # fmt: skip
    assert "DATABASE_URL" in missing


def test_the_bundled_app_is_migrated_and_measured_and_somebody_elses_is_not() -> None:
    bundled = tomllib.loads(fly_file(default_deployment()))
    assert bundled["deploy"]["release_command"] == "viral node migrate"
    assert bundled["metrics"] == [{"port": 8080, "path": "/metrics", "processes": ["app"]}]
    other = tomllib.loads(fly_file(parse(DEPLOYMENTS["an app of one's own"])))
    assert "release_command" not in other["deploy"]
    assert "metrics" not in other


def test_somebody_elses_app_is_asked_only_whether_it_accepts_connections() -> None:
    raw = tomllib.loads(fly_file(parse(DEPLOYMENTS["an app of one's own"])))
    (service,) = raw["services"]
    assert [(p["port"], p["handlers"]) for p in service["ports"]] == [
        (80, ["http"]), (443, ["tls", "http"]),
    ]  # fmt: skip
    assert service["ports"][0]["force_https"] is True
    assert len(service["tcp_checks"]) == 1


def test_what_such_a_file_cannot_say_is_said_in_its_head() -> None:
    passive = fly_file(parse(DEPLOYMENTS["active-passive"]))
    assert "Only iad serves users" in passive
    sizes = fly_file(parse(DEPLOYMENTS["sizes by region"]))
    assert "Machines in lhr are of another size" in sizes
    assert "iad 2 to 10, lhr 3 to 5" in passive


def test_it_is_the_same_text_every_time_and_only_comments_are_long() -> None:
    deployment = default_deployment()
    assert fly_file(deployment) == fly_file(deployment)
    head = fly_file(deployment).split("\napp = ")[0]
    assert max(map(len, head.splitlines())) <= 92
    assert Secrets.make().signing_key not in head


def test_an_image_is_run_as_it_is() -> None:
    raw = tomllib.loads(fly_file(default_deployment(), image="registry.fly.io/shop:1"))
    assert raw["build"] == {"image": "registry.fly.io/shop:1"}


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(sorted(all_regions())), min_size=1, max_size=4, unique=True),
    st.sampled_from(list(presets().values())),
    st.integers(1, 500),
    st.integers(100, 300_000),
    st.booleans(),
)
def test_whatever_is_declared_within_reason_passes_our_own_rules(
    codes: list[str], guest: Guest, limit: int, milliseconds: int, passive: bool
) -> None:
    time = timedelta(milliseconds=milliseconds)
    made = with_overrides(default_deployment(), regions=codes, primary=codes[0])
    deployment = replace(
        made,
        regions=tuple(replace(plan, guest=guest) for plan in made.regions),
        strategy=Strategy.ACTIVE_PASSIVE if passive else Strategy.ACTIVE_ACTIVE,
        service=Service(
            hard_limit=limit, soft_limit=max(1, limit - 1), kill_timeout=time,
            check=Check(interval=time, timeout=time, grace_period=time),
        ),
    )  # fmt: skip
    assert lint(fly_file(deployment)) == ()


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), st.text(
    st.characters(codec="utf-8"), max_size=20), max_size=4))  # fmt: skip
def test_any_value_of_the_environment_comes_out_as_it_went_in(env: dict[str, str]) -> None:
    text = render(AppFile(app="shop", primary_region="iad", env=env, groups={"app": idle()}))
    assert tomllib.loads(text).get("env", {}) == env


def idle() -> MachineConfig:
    return MachineConfig(image="x", init=Init(cmd=("viral", "node", "app")))


def test_every_group_has_its_own_command_and_size() -> None:
    worker = MachineConfig(
        image="x", init=Init(cmd=("shop", "work")), guest=MachineGuest(memory_mb=1024),
        stop_config=StopConfig(signal="SIGTERM", timeout=timedelta(seconds=25)),
    )  # fmt: skip
    groups = {"app": idle(), "worker": worker}
    text = render(AppFile(app="shop", primary_region="iad", groups=groups))
    raw = tomllib.loads(text)
    assert raw["processes"] == {"app": "viral node app", "worker": "shop work"}
    assert [(vm["memory"], vm["processes"]) for vm in raw["vm"]] == [
        ("256mb", ["app"]), ("1024mb", ["worker"]),
    ]  # fmt: skip
    assert (raw["kill_signal"], raw["kill_timeout"]) == ("SIGTERM", "25s")
    assert lint(text) == ()


def run(*args: str) -> Result:
    return CliRunner().invoke(viral, ["render", *args], catch_exceptions=False)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_is_printed_or_written_and_written_again(folder: Path) -> None:
    (folder / "viral.toml").write_text('app = "shop"\n', "utf-8")
    printed = run("fly.toml")
    assert (printed.exit_code, tomllib.loads(printed.stdout)["app"]) == (0, "shop")
    assert run("fly.toml", "--out", "fly.toml").stdout == ""
    assert (folder / "fly.toml").read_text("utf-8") == printed.stdout
    assert run("fly.toml", "--out", "fly.toml").exit_code == 0
    said = json.loads(run("fly.toml", "--json").stdout)
    assert said == {"what": "fly.toml", "out": None, "text": printed.stdout}


def test_a_file_of_somebodys_own_hand_is_replaced_only_by_force(folder: Path) -> None:
    (folder / "fly.toml").write_text('app = "mine"\n', "utf-8")
    refused = run("fly.toml", "--out", "fly.toml", "--json")
    assert (refused.exit_code, "--force" in refused.stdout) == (2, True)
    assert (folder / "fly.toml").read_text("utf-8") == 'app = "mine"\n'
    assert run("fly.toml", "--out", "fly.toml", "--force").exit_code == 0
    assert run("fly.toml", "--out", "none/fly.toml").exit_code == 2


@pytest.mark.parametrize("args", [["Dockerfile"], [], ["fly.toml", "--file", "none.toml"]])
def test_what_cannot_be_rendered_is_misuse(args: list[str]) -> None:
    assert run(*args).exit_code == 2
