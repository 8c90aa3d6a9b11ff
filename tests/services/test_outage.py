"""A host that is lost is no crash of what ran on it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from tests.services.platform_world import APP, platform, runs

from viral_engine.clock import wait_until
from viral_engine.errors import NoCapacityError, PlatformError
from viral_engine.fly.model import MachineState

SOON = timedelta(seconds=10)


async def test_a_machine_begins_again_with_its_host_however_often_that_was_lost(
    tmp_path: Path,
) -> None:
    async with platform(tmp_path / "home") as world:
        await world.client.create_app(APP)
        for policy in ("on-failure", "no"):
            await world.client.create_machine(
                APP, name=policy, region="iad",
                config=runs(restart={"policy": policy, "max_retries": 1}),
            )  # fmt: skip

        async def all_are(state: MachineState) -> None:
            async def are() -> bool:
                machines = await world.client.list_machines(APP)
                return [one.state for one in machines] == [state, state]

            await wait_until(are, timeout=SOON, waiting_for=f"both machines to be {state}")

        await all_are(MachineState.STARTED)
        for _ in range(3):
            async with world.extension.fault("outage", regions=("iad",)):
                await all_are(MachineState.STARTING)
            await all_are(MachineState.STARTED)


async def test_while_its_hosts_are_lost_a_region_has_no_room_for_a_new_machine(
    tmp_path: Path,
) -> None:
    async with platform(tmp_path / "home") as world:
        await world.client.create_app(APP)
        async with world.extension.fault("outage", regions=("iad",)):
            with pytest.raises(NoCapacityError):
                await world.client.create_machine(APP, name="", region="iad", config=runs())
        made = await world.client.create_machine(APP, name="", region="iad", config=runs())
        await world.client.wait_for(APP, made.id, MachineState.STARTED, timeout=SOON)


async def test_a_machine_whose_host_is_lost_is_not_updated_and_begins_again_as_it_was(
    tmp_path: Path,
) -> None:
    async with platform(tmp_path / "home") as world:
        await world.client.create_app(APP)
        made = await world.client.create_machine(APP, name="", region="iad", config=runs())
        await world.client.wait_for(APP, made.id, MachineState.STARTED, timeout=SOON)
        async with world.extension.fault("outage", regions=("iad",)):
            with pytest.raises(PlatformError, match="unreachable"):
                await world.client.update_machine(APP, made.id, runs(env={"A": "1"}))
        await world.client.wait_for(APP, made.id, MachineState.STARTED, timeout=SOON)
        assert (await world.client.get_machine(APP, made.id)).config == made.config
