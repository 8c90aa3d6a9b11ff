"""A deploy on a real platform: killed at every step, refused in every way, and two at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.services.deploy_world import (
    DEPLOYMENT,
    DeployWorld,
    Silence,
    deploy_until_killed,
    deploy_world,
    summary,
)

from viral_engine.cli.target import kept_secrets
from viral_engine.errors import (
    MachineFailedError,
    NoCapacityError,
    OtherOperatorError,
    PlatformError,
)
from viral_engine.fly.app_settings import AppSettings
from viral_engine.fly.leases import leased
from viral_engine.fly.model import MachineConfig, MachineState
from viral_engine.operations.blueprint import apps
from viral_engine.operations.deploy.changes import UpdateMachine
from viral_engine.operations.take_down import take_down

CHANGES_AT_MOST = 100
DEPLOYED = apps(DEPLOYMENT)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[DeployWorld]:
    async with deploy_world(tmp_path / "home") as made:
        yield made


@pytest.fixture
async def deployed(world: DeployWorld) -> DeployWorld:
    await world.deploy().run()
    return world


def machine_id(world: DeployWorld, name: str) -> str:
    platform = world.running.globe._platform
    assert platform is not None
    return next(record.id for record in platform.machines() if record.name == name)


async def test_a_second_deploy_has_nothing_to_do(deployed: DeployWorld) -> None:
    again = deployed.deploy()
    assert (await again.plan()).stages == ()
    found = await again.run()
    assert again.done == []
    assert all(m.healthy for m in found.machines)
    assert deployed.migrations == 1


@pytest.mark.timeout(300)
async def test_a_deploy_that_is_killed_at_every_step_ends_in_the_same_state(
    tmp_path: Path,
) -> None:
    async with deploy_world(tmp_path / "control") as control:
        wanted = summary(await control.deploy().run())
    async with deploy_world(tmp_path / "killed") as world:
        deaths = 0
        while (found := await deploy_until_killed(world, changes=1)) is None:
            deaths += 1
            assert deaths < CHANGES_AT_MOST
        assert summary(found) == wanted
        assert deaths > len(found.machines) + len(wanted)
        assert (await world.deploy().plan()).stages == ()
        assert world.migrations == 1


@pytest.mark.timeout(300)
async def test_an_update_that_is_killed_at_every_step_ends_with_every_machine_updated(
    deployed: DeployWorld,
) -> None:
    deaths = 0
    while (found := await deploy_until_killed(deployed, changes=1, image="shop:2")) is None:
        deaths += 1
        assert deaths < CHANGES_AT_MOST
    assert deaths > len(found.machines)
    assert {m.config.image for m in found.machines} == {"shop:2"}
    assert (await deployed.deploy(image="shop:2").plan()).stages == ()


async def test_machines_are_updated_one_by_one_and_the_primary_when_it_has_moved_away(
    deployed: DeployWorld,
) -> None:
    update = deployed.deploy(image="shop:2")
    await update.run()
    order = [change.name for change in update.done if isinstance(change, UpdateMachine)]
    assert order == ["witness-yyz", "database-lhr", "cache-iad", "cache-lhr", "database-iad",
                     "app-iad-1", "app-lhr-1"]  # fmt: skip
    assert deployed.databases.moved == ["lhr", "iad"]
    assert deployed.migrations == 2


LOST = [
    "/apps", "/apps/*/volumes", "/apps/*/secrets", "/apps/*/ip_assignments",
    "/apps/*/certificates/acme", "/apps/*/machines", "/apps/*/machines/*",
]  # fmt: skip


@pytest.mark.parametrize("status", [0, 503, 429])
async def test_each_kind_of_call_may_fail_once_and_nothing_is_done_twice(
    world: DeployWorld, status: int
) -> None:
    for path in LOST:
        await world.refuse(
            method="POST", path=path, status=status, times=2 if status == 429 else 1,
            headers={"retry-after": "0.01"},
        )  # fmt: skip
    async with world.client() as client:
        found = await world.deploy(client).run()
    assert (await world.deploy().plan()).stages == ()
    assert [len(found.app(name).volumes) for name in found.apps] == [0, 3, 0]
    assert len({m.name for m in found.machines}) == len(found.machines) == 7
    assert world.migrations == 1


async def test_a_platform_that_is_ill_for_good_ends_a_deploy_with_a_remedy(
    world: DeployWorld,
) -> None:
    await world.refuse(method="POST", path="/apps/*/volumes", status=500, times=99)
    with pytest.raises(PlatformError) as raised:
        await world.deploy().run()
    assert raised.value.status == 500
    assert "status page" in raised.value.suggestion
    await world.running.client.http.delete("/globe/refusals")
    assert len((await world.deploy().run()).machines) == 7


CREATE = {"method": "POST", "path": "/apps/shop/machines", "status": 422,
          "body": {"error": "could not find a candidate host", "status": "insufficient_capacity"}}  # fmt: skip


async def test_a_region_without_room_ends_a_deploy_which_then_goes_on(world: DeployWorld) -> None:
    await world.refuse(**CREATE, skip=1)
    with pytest.raises(NoCapacityError) as raised:
        await world.deploy().run()
    assert "another region" in raised.value.suggestion
    assert len((await world.deploy().run()).machines) == 7
    assert world.migrations == 1


async def test_a_host_without_room_at_a_start_is_said_as_such(deployed: DeployWorld) -> None:
    client, stopped = deployed.running.client, machine_id(deployed, "app-lhr-1")
    await client.stop_machine("shop", stopped)
    await client.wait_for(
        "shop", stopped, MachineState.STOPPED, timeout=DEPLOYMENT.service.kill_timeout
    )
    full = "aborted: could not reserve resource for machine: insufficient memory available"
    await deployed.refuse(
        method="POST", path="/apps/*/machines/*/start", status=409, body={"error": full}
    )
    with pytest.raises(NoCapacityError, match="insufficient memory"):
        await deployed.deploy().run()
    await deployed.deploy().run()
    assert (await client.get_machine("shop", stopped)).state is MachineState.STARTED


async def test_a_machine_that_somebody_leased_is_not_changed_until_that_ends(
    deployed: DeployWorld,
) -> None:
    app = machine_id(deployed, "app-iad-1")
    async with deployed.client() as other:
        async with leased(other, "shop", app, "fly deploy by bob"):
            with pytest.raises(OtherOperatorError, match="fly deploy by bob"):
                await deployed.deploy(image="shop:2").run()
        path = f"/apps/shop/machines/{app}/lease"
        left = {"ttl": 13, "description": "a command that died"}
        assert (await other.http.post(path, json=left)).status_code == 201
        deployed.leases_end()
        await deployed.deploy(image="shop:2").run()


async def test_the_second_of_two_deploys_is_told_who_is_at_work(world: DeployWorld) -> None:
    async with world.client() as one, world.client() as two:
        results = await asyncio.gather(
            world.deploy(one, who="ana").run(),
            world.deploy(two, who="bob").run(),
            return_exceptions=True,
        )
    (refused,) = (one for one in results if isinstance(one, BaseException))
    assert isinstance(refused, OtherOperatorError)
    assert "viral deploy by" in refused.message
    assert len((await world.deploy().run()).machines) == 7
    assert world.migrations == 1


async def test_a_migration_that_fails_leaves_what_serves_as_it_was(deployed: DeployWorld) -> None:
    class Broken(type(deployed.blueprint)):  # type: ignore[misc]  # the base is the fixture's
        def migration(self) -> MachineConfig:
            config: MachineConfig = super().migration()
            init = config.init.model_copy(update={"exec": ("false",)})
            restart = config.restart.model_copy(update={"max_retries": 1})
            return config.model_copy(update={"init": init, "restart": restart})

    values = {name: getattr(deployed.blueprint, name) for name in deployed.blueprint.__slots__}
    deployed.blueprint, good = Broken(**values), deployed.blueprint
    with pytest.raises(MachineFailedError, match="migration failed with 1"):
        await deployed.deploy(image="shop:2").run()
    apps = await deployed.running.client.list_machines("shop")
    assert {m.config.image for m in apps if m.role == "app"} == {"shop:1"}
    deployed.blueprint = good
    found = await deployed.deploy(image="shop:2").run()
    assert {m.config.image for m in found.machines} == {"shop:2"}
    assert "migrate" not in {m.name for m in found.machines}


async def test_a_machine_that_nothing_declares_goes_and_one_that_was_cordoned_stays_so(
    deployed: DeployWorld,
) -> None:
    client = deployed.running.client
    app = await client.get_machine("shop", machine_id(deployed, "app-iad-1"))
    await client.create_machine("shop", name="app-iad-7", region="iad", config=app.config)
    await client.cordon_machine("shop", app.id)
    deploy = deployed.deploy()
    assert len((await deploy.plan()).notes) == 1
    found = await deploy.run()
    assert {m.name for m in found.machines if m.role == "app"} == {"app-iad-1", "app-lhr-1"}
    kept = found.machine("shop", "app-iad-1")
    assert kept is not None
    assert kept.cordoned


async def test_a_size_that_changed_reaches_the_machines_of_that_region_only(
    deployed: DeployWorld,
) -> None:
    plans = tuple(
        replace(plan, guest=replace(plan.guest, memory_mb=2048)) if plan.code == "lhr" else plan
        for plan in DEPLOYMENT.regions
    )
    bigger = deployed.deploy(deployment=replace(DEPLOYMENT, regions=plans))
    found = await bigger.run()
    assert [change.what for change in bigger.done] == ["app-lhr-1"]
    changed = found.machine("shop", "app-lhr-1")
    assert changed is not None
    assert changed.config.guest.memory_mb == 2048
    assert isinstance(bigger.progress, Silence)
    assert any("guest.memory_mb is 1024, not 2048" in detail for _, detail in bigger.progress.heard)


async def test_whoever_deploys_next_takes_the_secrets_from_the_platform(
    deployed: DeployWorld,
) -> None:
    client = deployed.running.client
    assert await kept_secrets(client, "shop") == deployed.blueprint.secrets
    await AppSettings(client).set_secrets("shop-db", {"VIRAL_APP_PASSWORD": None})
    made = await kept_secrets(client, "shop")
    assert made.app_password != deployed.blueprint.secrets.app_password
    assert made.signing_key == deployed.blueprint.secrets.signing_key
    await deployed.refuse(
        method="GET", path="/apps/shop/secrets", status=403, body={"error": "not allowed"}
    )
    with pytest.raises(PlatformError, match="not allowed"):
        await kept_secrets(client, "shop")


async def test_the_end_waits_for_the_leases_of_a_deploy_that_died(deployed: DeployWorld) -> None:
    client, machine = deployed.running.client, machine_id(deployed, "cache-iad")
    left = await client.http.post(f"/apps/shop-cache/machines/{machine}/lease", json={"ttl": 1})
    assert left.status_code == 201
    await take_down(client, Silence())
    states = {m.state for name in DEPLOYED for m in await client.list_machines(name)}
    assert states == {MachineState.STOPPED}
