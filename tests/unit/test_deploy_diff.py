"""What a deploy would do, decided over values: each kind of drift, no secrets, and an end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.deploy_values import SECRETS, TEXTS, World, blueprint

from viral_engine.errors import RefusedError
from viral_engine.fly.model import MachineConfig, MachineState
from viral_engine.operations.blueprint import Blueprint, apps, places
from viral_engine.operations.deploy import Found, Plan, diff
from viral_engine.operations.deploy.changes import (
    CreateMachine,
    HandOver,
    OfMachine,
    SetSecrets,
    UpdateMachine,
)
from viral_engine.operations.deploy.plan import Until
from viral_engine.operations.rollout import Mark, Version
from viral_engine.operations.rollout import Strategy as RolloutStrategy
from viral_engine.topology.model import (
    Deployment,
    Guest,
    RegionPlan,
    Service,
    Standby,
    Strategy,
    default_deployment,
)
from viral_engine.topology.witness import choose_witness


@pytest.fixture
def world() -> World:
    made = World()
    made.deploy(blueprint())
    return made


def names(plan: Plan) -> list[str]:
    return [f"{change.kind} {change.what or change.app}" for change in plan.changes]


def planned(world: World, wanted: Blueprint | None = None) -> list[str]:
    return names(diff(wanted or blueprint(), world.found))


def test_everything_is_planned_in_the_order_in_which_it_is_needed() -> None:
    plan = diff(blueprint(), Found())
    kinds = list(dict.fromkeys(change.kind for change in plan.changes))
    assert kinds == ["create-app", "create-volume", "set-secrets", "add-address", "create-machine",
                     "migrate"]  # fmt: skip
    made = [c for c in plan.changes if isinstance(c, CreateMachine)]
    assert {c.name for c in made} == {place.name for place in places(default_deployment())}
    assert [c.launch for c in made] == [c.role == "app" for c in made]
    first = [c.kind for c in plan.changes].index("migrate")
    assert all(c.role == "app" for c in plan.changes[first + 1 :] if isinstance(c, OfMachine))


def test_a_deploy_ends_with_nothing_to_do_and_migrates_once(world: World) -> None:
    assert diff(blueprint(), world.found) == Plan(())
    assert world.migrated == ["image:1"]
    assert all(m.state is MachineState.STARTED for m in world.found.machines)


def test_databases_start_with_the_primarys_region_and_the_vote_that_it_needs() -> None:
    world = World()
    started = [c.name for c in world.deploy(blueprint()) if isinstance(c, UpdateMachine)]
    witness = f"witness-{default_deployment().witness}"
    assert started[:3] == ["database-iad", witness, "database-lhr"]


def test_the_plan_is_the_same_text_for_the_same_state_and_holds_no_secret(world: World) -> None:
    world.edit("app-iad-1", config=MachineConfig(image="x", env={"HAND": "mine-own"}))
    wanted = blueprint(replace(default_deployment(), app="other"), image="image:2")
    for state, target in ((Found(), wanted), (world.found, blueprint(image="image:2"))):
        plan = diff(target, state)
        text = json.dumps(plan.facts()) + " ".join(plan.steps) + repr(plan)
        assert json.dumps(plan.facts()) == json.dumps(diff(target, state).facts())
        for secret in (*TEXTS, "mine-own"):
            assert secret not in text.replace(repr(state), ""), secret


@pytest.mark.parametrize(
    ("name", "fields", "path"),
    [
        ("app-lhr-1", {"image": "image:0"}, "image is image:0, not image:1"),
        ("app-lhr-1", {"guest": {"cpu_kind": "shared", "cpus": 2}}, "guest.cpus is 2, not 1"),
        ("app-lhr-1", {"env": {}}, "env."),
        ("cache-lhr", {"services": [{"internal_port": 1}]}, "services"),
        ("cache-lhr", {"stop_config": {"timeout": "1s"}}, "stop_config"),
    ],
)
def test_a_machine_that_was_changed_by_hand_is_updated_with_the_reason(
    world: World, name: str, fields: Mapping[str, Any], path: str
) -> None:
    machine = world.machine(name)
    wire = machine.config.to_wire() | dict(fields)
    world.edit(name, config=MachineConfig.model_validate(wire))
    (change,) = diff(blueprint(), world.found).changes
    assert isinstance(change, UpdateMachine)
    assert (change.name, path in change.reason) == (name, True), change.reason


def test_a_variable_that_was_added_by_hand_is_drift_and_shown_without_its_value(
    world: World,
) -> None:
    config = world.machine("app-lhr-2").config
    env = {**config.env, "STRIPE": "sk_live", "DATABASE_URL": "postgresql://u:hid@x/y"}
    world.edit("app-lhr-2", config=config.model_copy(update={"env": env}))
    (change,) = diff(blueprint(), world.found).changes
    said = json.dumps(change.facts())
    assert "env.STRIPE" in said
    assert "env.DATABASE_URL" in said
    assert "sk_live" not in said
    assert "hid" not in said


def test_what_the_platform_filled_in_is_no_drift_and_is_kept_by_an_update(world: World) -> None:
    wire = world.machine("app-iad-1").config.to_wire()
    wire["dns"] = {"skip_registration": False}
    wire["metadata"]["fly_release_id"] = "7"
    wire["services"][0]["autostop"] = False
    world.edit("app-iad-1", config=MachineConfig.model_validate(wire))
    assert planned(world) == []
    changes = world.deploy(blueprint(image="image:2"))
    assert any(isinstance(c, UpdateMachine) and c.name == "app-iad-1" for c in changes)
    kept = world.machine("app-iad-1").config.to_wire()
    assert (kept["dns"], kept["metadata"]["fly_release_id"]) == ({"skip_registration": False}, "7")


def test_machines_that_are_missing_stopped_or_not_declared_are_put_right(world: World) -> None:
    app = default_deployment().app
    stray = world.machine("app-iad-1").model_copy(update={"name": "app-syd-9", "id": "stray"})
    found = world.apps[app]
    left = tuple(m for m in found.machines if m.name != "app-lhr-3")
    world.apps[app] = replace(found, machines=(*left, stray))
    world.edit("cache-iad", state=MachineState.STOPPED)
    assert planned(world) == [
        "start-machine cache-iad", "create-machine app-lhr-3", "cordon-machine app-syd-9",
        "stop-machine app-syd-9", "destroy-machine app-syd-9",
    ]  # fmt: skip
    gone = [c.kind for c in world.deploy(blueprint()) if c.what == "app-syd-9"]
    assert gone == ["cordon-machine", "stop-machine", "destroy-machine"]


def test_what_an_operator_cordoned_and_what_is_not_ours_is_told_and_left(world: World) -> None:
    world.edit("app-lhr-1", cordoned=True)
    app = default_deployment().app
    config = MachineConfig(image="console", metadata={"fly_process_group": "fly_app_console"})
    other = world.machine("app-iad-1").model_copy(
        update={"name": "console", "id": "c1", "config": config}
    )
    world.apps[app] = replace(world.apps[app], machines=(*world.apps[app].machines, other))
    plan = diff(blueprint(), world.found)
    assert plan.stages == ()
    assert plan.notes == (
        "app-lhr-1 is cordoned and stays so: viral uncordon app-lhr-1",
        "console (c1) is not ours and stays: fly machine destroy c1",
    )


@pytest.mark.parametrize("served", [True, False])
def test_a_deploy_that_ends_a_rollout_lets_users_reach_the_old_machines_before_the_new_ones_go(
    world: World, served: bool
) -> None:
    app = default_deployment().app
    old = world.machine("app-lhr-1")
    mark = Mark(
        Version(image="image:2"), Version(image="image:1"), RolloutStrategy.BLUEGREEN, served=served
    )
    new = replace(mark, guest=True).put_on(mark.to.brought_to(old.config))
    guest = old.model_copy(update={"name": "app-lhr-1-new", "id": "guest", "config": new})
    world.edit("app-lhr-1", config=mark.put_on(old.config), cordoned=True)
    world.apps[app] = replace(world.apps[app], machines=(*world.apps[app].machines, guest))
    changes = [f"{c.kind} {c.what}" for c in world.deploy(blueprint()) if "app-lhr-1" in c.what]
    back = ["uncordon-machine app-lhr-1"] if served else []
    assert changes == [
        *back, "update-machine app-lhr-1", "cordon-machine app-lhr-1-new",
        "stop-machine app-lhr-1-new", "destroy-machine app-lhr-1-new",
    ]  # fmt: skip
    assert world.machine("app-lhr-1").cordoned is not served
    assert planned(world) == []


def test_a_machine_that_was_scaled_up_within_its_limits_is_kept_and_updated(world: World) -> None:
    plan = default_deployment().plan("lhr")
    more = world.machine("app-lhr-1").model_copy(
        update={"name": f"app-lhr-{plan.max}", "id": "more"}
    )
    app = default_deployment().app
    world.apps[app] = replace(world.apps[app], machines=(*world.apps[app].machines, more))
    assert planned(world) == []
    assert f"update-machine app-lhr-{plan.max}" in planned(world, blueprint(image="image:2"))


def test_databases_are_updated_one_by_one_and_the_primary_last_after_it_has_moved(
    world: World,
) -> None:
    plan = diff(blueprint(image="image:2"), world.found)
    databases = [
        c.what for stage in plan.stages for c in stage.changes
        if isinstance(c, HandOver) or (isinstance(c, UpdateMachine) and c.role == "database")
    ]  # fmt: skip
    assert databases == ["database-lhr", "iad", "database-iad"]
    assert all(len(s.changes) == 1 for s in plan.stages if "Update" in s.title)
    world.deploy(blueprint(image="image:2"))
    assert planned(world, blueprint(image="image:2")) == []
    assert world.migrated == ["image:1", "image:2"]


def test_who_is_ill_is_updated_first_and_a_primary_that_is_none_stays_where_it_is(
    world: World,
) -> None:
    world.edit("database-lhr", state=MachineState.STARTING)
    world.primary = None
    plan = diff(blueprint(image="image:2"), world.found)
    updated = [c.what for c in plan.changes if isinstance(c, UpdateMachine)]
    assert updated[0] == "database-lhr"
    assert not any(isinstance(c, HandOver) for c in plan.changes)


def test_who_takes_over_is_ready_before_who_served_stands_down() -> None:
    deployment = replace(
        default_deployment(), strategy=Strategy.ACTIVE_PASSIVE, standby=Standby.STOPPED
    )
    world = World()
    world.deploy(blueprint(deployment))
    world.primary = "lhr"
    plan = diff(blueprint(deployment), world.found)
    kinds = [(stage.until, {c.kind for c in stage.changes}) for stage in plan.stages]
    assert kinds == [
        (Until.DONE, {"uncordon-machine"}),
        (Until.HEALTHY, {"start-machine"}),
        (Until.DONE, {"cordon-machine", "stop-machine"}),
    ]


def test_new_secrets_are_set_and_reach_every_machine_that_has_them(world: World) -> None:
    wanted = replace(blueprint(), secrets=replace(SECRETS, signing_key="another"))
    plan = diff(wanted, world.found)
    first, *rest = plan.changes
    assert isinstance(first, SetSecrets)
    assert list(first.facts()["secrets"]) == ["VIRAL_SECRET"]
    assert first.facts()["secrets"]["VIRAL_SECRET"] != "new"
    assert {c.role for c in rest if isinstance(c, OfMachine)} == {"app"}
    world.deploy(wanted)
    assert planned(world, wanted) == []


def test_secrets_that_cannot_be_seen_are_not_set_again_but_told(world: World) -> None:
    app = default_deployment().app
    world.apps[app] = replace(world.apps[app], secrets={"VIRAL_SECRET": ""})
    plan = diff(blueprint(), world.found)
    assert (plan.stages, plan.notes) == (
        (), (f"the secrets of {app} cannot be compared: this token may not see them",)
    )  # fmt: skip


def test_a_hostname_gets_a_certificate_and_a_dedicated_address_does_for_a_shared_one(
    world: World,
) -> None:
    deployment = default_deployment()
    found = world.apps[deployment.app]
    world.apps[deployment.app] = replace(found, addresses=frozenset({"v4", "v6"}))
    wanted = blueprint(replace(deployment, service=Service(hostnames=("a.example.com",))))
    assert planned(world, wanted) == ["add-certificate a.example.com"]


@pytest.mark.parametrize(
    "change",
    [
        {"witness": "ams"},
        {"regions": (RegionPlan(code="iad"), RegionPlan(code="nrt"))},
        {"regions": (RegionPlan(code="iad"),), "witness": None},
    ],
)
def test_data_is_not_moved_by_a_deploy(world: World, change: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match="does not move data"):
        diff(blueprint(replace(default_deployment(), **change)), world.found)


@pytest.mark.parametrize("standby", list(Standby))
def test_regions_that_stand_by_are_cordoned_from_birth_and_follow_the_primary(
    standby: Standby,
) -> None:
    deployment = replace(default_deployment(), strategy=Strategy.ACTIVE_PASSIVE, standby=standby)
    wanted, world = blueprint(deployment), World()
    world.deploy(wanted)
    assert planned(world, wanted) == []
    serving = [m for m in world.found.machines if m.role == "app"]
    assert {m.region for m in serving if m.cordoned} == {"lhr"}
    runs = {m.region for m in serving if m.state is MachineState.STARTED}
    assert runs == ({"iad", "lhr"} if standby is Standby.STARTED else {"iad"})
    world.primary = "lhr"
    world.deploy(wanted)
    assert {m.region for m in world.found.machines if m.cordoned} == {"iad"}
    world.deploy(blueprint())
    assert not any(m.cordoned for m in world.found.machines)


REGIONS = ["iad", "lhr", "nrt", "fra"]


@st.composite
def deployments(draw: st.DrawFn, codes: list[str]) -> Deployment:
    plans = tuple(
        RegionPlan(
            code=code, min=draw(st.integers(1, 3)), max=3,
            guest=Guest(memory_mb=draw(st.sampled_from([512, 1024]))),
        )
        for code in codes
    )  # fmt: skip
    return Deployment(
        app="shop", primary_region=codes[0], regions=plans, witness=choose_witness(codes),
        strategy=draw(st.sampled_from(list(Strategy))), standby=draw(st.sampled_from(list(Standby))),
        service=Service(
            env={"LEVEL": draw(st.sampled_from(["a", "b"]))},
            hostnames=draw(st.sampled_from([(), ("x.example.com",)])),
        ),
    )  # fmt: skip


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[Blueprint, int, str, MachineState]]:
    """Deploys of other intents, each interrupted after so many stages, and then somebody's hand."""
    codes = draw(st.lists(st.sampled_from(REGIONS), min_size=1, max_size=3, unique=True))
    return [
        (
            blueprint(draw(deployments(codes)), draw(st.sampled_from(["image:1", "image:2"]))),
            draw(st.integers(0, 12)),
            draw(
                st.sampled_from([f"app-{codes[0]}-1", f"database-{codes[-1]}", f"cache-{codes[0]}"])
            ),
            draw(st.sampled_from([MachineState.STARTED, MachineState.STOPPED])),
        )
        for _ in range(draw(st.integers(1, 4)))
    ]


@settings(max_examples=60, deadline=None)
@given(histories())
def test_whatever_happened_before_a_deploy_ends_with_nothing_to_do(
    history: list[tuple[Blueprint, int, str, MachineState]],
) -> None:
    world = World()
    for wanted, stages, name, state in history:
        world.deploy(wanted, stages=stages)
        if any(
            m.name == name and m.state is not MachineState.CREATED for m in world.found.machines
        ):
            world.edit(name, state=state)
    wanted = history[-1][0]
    world.deploy(wanted)
    assert names(diff(wanted, world.found)) == []
    assert set(world.apps) == set(apps(wanted.deployment))
    assert wanted.image in world.migrated
    declared = {place.name for place in places(wanted.deployment)}
    found = {m.name for m in world.found.machines}
    assert declared <= found
    assert "migrate" not in found
