"""Scaling on a real platform: what is made, what goes and how, and what is never guessed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.services.deploy_world import DeployWorld, Silence, deploy_until_killed, deploy_world

from viral_engine.clock import wait_until
from viral_engine.errors import NoCapacityError, PlatformError, RefusedError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import MachineState
from viral_engine.operations.blueprint import Blueprint
from viral_engine.operations.operator_lock import Operator
from viral_engine.operations.scaling import Policy
from viral_engine.operations.scaling.apply import make_so, planned
from viral_engine.operations.scaling.autoscaler import Autoscaler, Happening
from viral_engine.operations.scaling.wanted import scaled, with_exactly
from viral_engine.topology.model import RegionPlan

OPERATOR = Operator("ana", "viral scale")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[DeployWorld]:
    async with deploy_world(tmp_path / "home") as made:
        yield made


@pytest.fixture
async def deployed(world: DeployWorld) -> DeployWorld:
    await world.deploy().run()
    return world


def wanted(world: DeployWorld, *counts: str) -> Blueprint:
    return replace(world.blueprint, deployment=scaled(world.blueprint.deployment, counts))


async def make(world: DeployWorld, blueprint: Blueprint, *regions: str) -> int:
    return await make_so(
        world.running.client, blueprint, regions, operator=OPERATOR, progress=Silence(), edges={}
    )


async def app_machines(world: DeployWorld) -> list[str]:
    return sorted(m.name for m in await world.running.client.list_machines("shop"))


async def test_machines_come_and_go_in_one_region_and_who_goes_was_cordoned_and_stopped_before(
    deployed: DeployWorld,
) -> None:
    assert await make(deployed, wanted(deployed, "lhr=3"), "lhr") == 2
    three = ["app-iad-1", "app-lhr-1", "app-lhr-2", "app-lhr-3"]
    assert await app_machines(deployed) == three
    platform = deployed.running.globe._platform
    assert platform is not None
    going = [r for r in platform.machines() if r.name in {"app-lhr-2", "app-lhr-3"}]
    assert await make(deployed, wanted(deployed, "lhr=1"), "lhr") == 6
    assert await app_machines(deployed) == ["app-iad-1", "app-lhr-1"]
    for record in going:
        happened = [event["type"] for event in reversed(record.events)]
        assert happened.index("cordon") < happened.index("stop")
        assert record.state is MachineState.DESTROYED


async def test_scaling_leaves_to_a_deploy_whatever_else_is_to_do(deployed: DeployWorld) -> None:
    drifted = replace(wanted(deployed, "lhr=2"), image="shop:2")
    plan = await planned(deployed.running.client, drifted, ["lhr"])
    assert [change.what for change in plan.changes] == ["app-lhr-2"]
    await make(deployed, drifted, "lhr")
    images = {m.name: m.config.image for m in await deployed.running.client.list_machines("shop")}
    assert (images["app-lhr-1"], images["app-lhr-2"]) == ("shop:1", "shop:2")


async def test_before_the_first_deploy_nothing_is_scaled(world: DeployWorld) -> None:
    with pytest.raises(RefusedError, match="not whole") as raised:
        await make(world, wanted(world, "lhr=2"), "lhr")
    assert "viral deploy" in raised.value.suggestion
    async with world.client() as client:
        assert await client.list_apps() == []


async def test_while_a_rollout_is_halted_nothing_is_scaled(deployed: DeployWorld) -> None:
    (machine,) = [
        m for m in await deployed.running.client.list_machines("shop") if m.name == "app-lhr-1"
    ]
    mark = f"/apps/shop/machines/{machine.id}/metadata/viral_rollout"
    await deployed.running.client.request("POST", mark, json={"value": "{}"})
    with pytest.raises(RefusedError, match="app-lhr-1 is a part of it"):
        await make(deployed, wanted(deployed, "lhr=2"), "lhr")
    assert "app-lhr-2" not in await app_machines(deployed)
    await deployed.deploy().run()
    assert await make(deployed, wanted(deployed, "lhr=2"), "lhr") == 1


async def test_a_deploy_that_died_while_machines_were_to_go_is_gone_on_from(
    deployed: DeployWorld,
) -> None:
    await make(deployed, wanted(deployed, "lhr=2"), "lhr")
    deployment = with_exactly(deployed.blueprint.deployment, {"lhr": 1})
    deaths = 0
    while await deploy_until_killed(deployed, changes=1, deployment=deployment) is None:
        deaths += 1
        assert deaths < 20
    assert deaths >= 2
    assert "app-lhr-2" not in await app_machines(deployed)


CREATE = {"method": "POST", "path": "/apps/shop/machines", "status": 422,
          "body": {"error": "could not find a candidate host", "status": "insufficient_capacity"}}  # fmt: skip


async def test_a_region_without_room_is_said_and_what_was_there_stays(
    deployed: DeployWorld,
) -> None:
    await deployed.refuse(**CREATE, times=9)
    with pytest.raises(NoCapacityError):
        await make(deployed, wanted(deployed, "lhr=2"), "lhr")
    assert await app_machines(deployed) == ["app-iad-1", "app-lhr-1"]


class Told(list[Happening]):
    """What an autoscaler told."""

    def of(self, event: str) -> list[Happening]:
        return [one for one in self if one.event == event]

    async def until(self, event: str) -> None:
        await wait_until(
            lambda: bool(self.of(event)), timeout=timedelta(seconds=30),
            waiting_for=f"the autoscaler to tell {event}",
        )  # fmt: skip


def autoscaler(
    world: DeployWorld, told: Told, client: FlyClient | None = None, **plans: RegionPlan
) -> Autoscaler:
    deployment = world.blueprint.deployment
    regions = tuple(plans.get(plan.code, plan) for plan in deployment.regions)
    return Autoscaler(
        client or world.running.client,
        replace(world.blueprint, deployment=replace(deployment, regions=regions)),
        Policy(cooldown_s=0, low_for_s=0), OPERATOR, told.append,
    )  # fmt: skip


async def test_machines_that_do_not_tell_their_load_are_never_taken_away(
    deployed: DeployWorld,
) -> None:
    """These machines are somebody's own server, which tells nothing."""
    await make(deployed, wanted(deployed, "lhr=2"), "lhr")
    told = Told()
    scaler = autoscaler(deployed, told)
    for _ in range(3):
        await scaler.turn()
    assert {one.facts["complete"] for one in told.of("load")} == {False}
    assert told.of("decided") == []
    assert "app-lhr-2" in await app_machines(deployed)


async def test_the_floor_is_kept_and_what_the_platform_refuses_is_told_and_tried_again(
    deployed: DeployWorld,
) -> None:
    told = Told()
    scaler = autoscaler(deployed, told, lhr=RegionPlan(code="lhr", min=2, max=3))
    await scaler.turn()
    await deployed.refuse(**CREATE, times=1)
    await scaler.turn()
    (failed,) = told.of("failed")
    assert failed.facts["regions"] == ["lhr"]
    assert "app-lhr-2" not in await app_machines(deployed)
    await scaler.turn()
    assert told.of("scaled")[0].facts["changes"] == 1
    assert "app-lhr-2" in await app_machines(deployed)
    assert {one.facts["region"] for one in told.of("decided")} == {"lhr"}


async def test_a_platform_that_does_not_answer_is_told_and_asked_again_but_not_where_it_is_once(
    deployed: DeployWorld,
) -> None:
    await deployed.refuse(method="GET", path="/apps/shop/machines", status=500, times=1000)
    told, often = Told(), timedelta(milliseconds=10)
    async with deployed.client() as client:
        with pytest.raises(PlatformError):
            await autoscaler(deployed, told, client).run(often, once=True)
        keeping = asyncio.create_task(autoscaler(deployed, told, client).run(often))
        try:
            await told.until("blind")
            await deployed.running.client.http.delete("/globe/refusals")
            await told.until("load")
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
    assert told.of("decided") == []
