"""A rollout on a real platform, with real app machines and edges, and users who come all the time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.services.deploy_world import Killed, Mortal
from tests.services.rollout_world import RolloutWorld, rollout_world, version

from viral_engine.clock import wait_until
from viral_engine.errors import OperationError, OtherOperatorError, RefusedError
from viral_engine.operations.rollout import Strategy, Verdict

REST = {"app-iad-1": "1", "app-iad-2": "1", "app-lhr-1": "1", "app-lhr-2": "1"}
DEATHS_AT_MOST = 60


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[RolloutWorld]:
    async with rollout_world(tmp_path / "home") as made:
        yield made


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[RolloutWorld]:
    """One machine in each region."""
    async with rollout_world(tmp_path / "home", each=1) as made:
        yield made


@pytest.mark.timeout(180)
async def test_a_good_version_reaches_every_machine_by_guests_and_no_request_fails(
    small: RolloutWorld,
) -> None:
    world = small
    before = await world.machines()
    async with world.users(25) as users:
        rollout = world.rollout(
            version("2"), strategy=Strategy.BLUEGREEN, bake_s=8, waves=(("iad", "lhr"),)
        )
        await rollout.run()
    assert await world.versions() == {"app-iad-1": "2", "app-lhr-1": "2"}
    assert {m.id for m in (await world.machines()).values()} == {m.id for m in before.values()}
    assert [one for one in users.answers if one.status != 200] == []
    assert {one.version for one in users.answers} == {"1", "2"}
    assert [(wave, ruling.verdict) for wave, ruling in rollout.rulings] == [
        (("iad", "lhr"), Verdict.GO)
    ]
    assert (await world.rollout(version("2")).plan()).stages == ()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("strategy", list(Strategy))
async def test_a_version_that_answers_errors_goes_back_at_once_and_no_further(
    world: RolloutWorld, strategy: Strategy
) -> None:
    before = await world.machines()
    async with world.users() as users:
        with pytest.raises(OperationError, match=r"lhr was rolled back: .* failed") as raised:
            await world.rollout(version("bad"), strategy=strategy, bake_s=30).run()
        assert "Not touched: iad" in raised.value.message
        assert "viral logs --region lhr" in raised.value.suggestion
        seen = len(users.of("lhr"))
        await wait_until(
            lambda: len(users.of("lhr")) > seen + 25, timeout=timedelta(seconds=20),
            waiting_for="users who come after it",
        )  # fmt: skip
        assert not [one for one in users.of("lhr")[seen:] if one.status != 200]
    assert await world.versions() == REST
    after = await world.machines()
    untouched = ("app-iad-1", "app-iad-2")
    assert {after[n].instance_id for n in untouched} == {before[n].instance_id for n in untouched}
    assert users.failed("iad") == []
    failed = users.failed("lhr")
    assert failed
    assert len(failed) <= 60, "some seconds' worth of a region's users at most"
    with pytest.raises(RefusedError, match="No rollout is under way"):
        await world.rollout(version("bad")).back()


@pytest.mark.timeout(120)
async def test_a_version_that_does_not_start_meets_no_user(world: RolloutWorld) -> None:
    async with world.users() as users:
        with pytest.raises(OperationError, match=r"lhr was rolled back: .* does not stay up"):
            await world.rollout(version("dead")).run()
    assert await world.versions() == REST
    assert [one for one in users.answers if one.status != 200] == []


@pytest.mark.timeout(120)
async def test_a_bake_without_users_is_unknown_and_can_be_undone_or_allowed(
    small: RolloutWorld,
) -> None:
    world, rest = small, {"app-iad-1": "1", "app-lhr-1": "1"}
    with pytest.raises(OperationError, match="nobody knows whether it is good") as raised:
        await world.rollout(version("2"), bake_s=0.5).run()
    assert "--allow-quiet" in raised.value.suggestion
    assert await world.versions() == rest | {"app-lhr-1": "2 marked"}
    with pytest.raises(RefusedError, match="A rollout of VERSION=2 is under way"):
        await world.rollout(version("3")).run()
    await world.rollout(version("2")).back()
    assert await world.versions() == rest
    await world.rollout(version("2"), bake_s=0.5, quiet_is_well=True).run()
    assert await world.versions() == dict.fromkeys(rest, "2")


@pytest.mark.timeout(120)
async def test_an_interrupted_rollout_leaves_who_was_only_drained_in_service(
    small: RolloutWorld,
) -> None:
    world = small
    async with world.client() as client:
        running = asyncio.create_task(world.rollout(version("2"), client).run())

        async def cordoned() -> bool:
            return (await world.machines())["app-lhr-1"].cordoned

        await wait_until(
            cordoned, timeout=timedelta(seconds=20), interval=timedelta(milliseconds=5),
            waiting_for="the first machine to be drained",
        )  # fmt: skip
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    world.leases_end()  # of whoever was interrupted as it gave one back
    assert await world.versions() == {"app-iad-1": "1", "app-lhr-1": "1"}
    async with world.client() as one, world.client() as two:
        first = asyncio.create_task(
            world.rollout(version("2"), one, bake_s=0.5, quiet_is_well=True).run()
        )
        await wait_until(lambda: bool(one.nonces), timeout=timedelta(seconds=20),
                         waiting_for="the first to hold the lock")  # fmt: skip
        with pytest.raises(OtherOperatorError, match="viral rollout by ana"):
            await world.rollout(version("2"), two).run()
        await first


async def until_killed(world: RolloutWorld, strategy: Strategy, *, changes: int = 1) -> bool:
    """Roll out with a process that dies after so many changes; whether it lived to the end."""
    async with world.client() as client:
        mortal = client.http._transport = Mortal(client.http._transport, changes)
        try:
            await world.rollout(
                version("2"), client, strategy=strategy, bake_s=0.1, quiet_is_well=True
            ).run()
        except Killed:
            world.leases_end()
            return False
        finally:
            await wait_until(
                lambda: mortal.under_way == 0, timeout=timedelta(seconds=20),
                waiting_for="the last answers to a process that died",
            )  # fmt: skip
    return True


@pytest.mark.timeout(300)
@pytest.mark.parametrize("strategy", [Strategy.ROLLING, Strategy.BLUEGREEN])
async def test_a_rollout_that_is_killed_at_every_step_goes_on_to_the_same_end(
    tmp_path: Path, strategy: Strategy
) -> None:
    async with rollout_world(tmp_path / "home", each=1) as world, world.users(5) as users:
        deaths = 0
        while not await until_killed(world, strategy):
            deaths += 1
            assert deaths < DEATHS_AT_MOST
            serving = [one for one in (await world.versions()).values() if "cordoned" not in one]
            assert serving
        assert await world.versions() == {"app-iad-1": "2", "app-lhr-1": "2"}
        assert deaths >= 8
    assert [one for one in users.answers if one.status != 200] == []


@pytest.mark.timeout(120)
async def test_a_rollout_that_was_killed_anywhere_can_be_undone(tmp_path: Path) -> None:
    async with rollout_world(tmp_path / "home", each=1) as world:
        for changes in range(1, 6):
            assert not await until_killed(world, Strategy.BLUEGREEN, changes=changes)
            await world.rollout(version("2")).back()
            assert await world.versions() == {"app-iad-1": "1", "app-lhr-1": "1"}, changes
