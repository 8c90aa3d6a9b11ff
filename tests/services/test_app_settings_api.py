"""Leases, metadata, secrets, addresses and certificates; and calls that are refused on purpose."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from tests.services.platform_world import APP, Running, platform, runs

from viral_engine.clock import wait_until
from viral_engine.errors import LeaseHeldError, LostAnswerError, NotFoundError, PlatformError
from viral_engine.fly import leases
from viral_engine.fly.app_settings import AppSettings
from viral_engine.fly.client import FlyClient
from viral_engine.fly.leases import lease_of, leased
from viral_engine.fly.model import MachineState

SOON = timedelta(seconds=10)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Running]:
    async with platform(tmp_path / "home") as running:
        await running.client.create_app(APP)
        yield running


@pytest.fixture
async def other(world: Running) -> AsyncIterator[FlyClient]:
    """Somebody else, with the same token."""
    async with FlyClient(world.globe.api_url, world.globe.token) as client:
        yield client


async def idle(world: Running, name: str = "one") -> str:
    made = await world.client.create_machine(
        APP, name=name, region="iad", config=runs(), launch=False
    )
    return made.id


async def answer(world: Running, method: str, path: str, **more: object) -> httpx.Response:
    response: httpx.Response = await world.client.http.request(method, path, **more)  # type: ignore[arg-type]  # test shorthand
    return response


async def test_l01_a_lease_has_one_holder_who_prolongs_it_by_its_nonce(world: Running) -> None:
    path = f"/apps/{APP}/machines/{await idle(world)}/lease"
    first = await answer(world, "POST", path, params={"ttl": 30})
    assert first.status_code == 201
    held = first.json()["data"]
    refused = await answer(world, "POST", path)
    assert refused.status_code == 409
    assert re.search(
        r"lease currently held by .+, expires at \d{4}-.+T.+Z$", refused.json()["error"]
    )
    longer = await answer(world, "POST", path, params={"ttl": 90},
                          headers={"fly-machine-lease-nonce": held["nonce"]})  # fmt: skip
    assert longer.json()["data"]["nonce"] == held["nonce"]
    assert longer.json()["data"]["expires_at"] > held["expires_at"]


async def test_l02_a_lease_guards_changes_and_not_reads(world: Running, other: FlyClient) -> None:
    machine = await idle(world)
    async with leased(other, APP, machine, "viral deploy by somebody"):
        for change in (
            world.client.update_machine(APP, machine, runs()),
            world.client.start_machine(APP, machine),
            world.client.stop_machine(APP, machine),
            world.client.restart_machine(APP, machine),
            world.client.cordon_machine(APP, machine),
            world.client.uncordon_machine(APP, machine),
            world.client.delete_machine(APP, machine),
        ):
            with pytest.raises(LeaseHeldError):
                await change
        assert [m.id for m in await world.client.list_machines(APP)] == [machine]
        await idle(world, "two")
        told = await lease_of(world.client, APP, machine)
        assert told is not None
        assert told["description"] == "viral deploy by somebody"
        await other.start_machine(APP, machine)
    await world.client.stop_machine(APP, machine)


async def test_l03_a_lease_ends_by_itself_or_by_its_holder(world: Running) -> None:
    machine = await idle(world)
    path = f"/apps/{APP}/machines/{machine}/lease"
    assert (await answer(world, "GET", path)).status_code == 404
    await answer(world, "POST", path, json={"ttl": 2})
    assert (await answer(world, "DELETE", path)).status_code == 409

    async def ended() -> bool:
        return await lease_of(world.client, APP, machine) is None

    await wait_until(ended, timeout=SOON, waiting_for="the lease to end")
    async with leased(world.client, APP, machine, "mine"):
        assert await lease_of(world.client, APP, machine) is not None
    assert await ended()
    assert world.client.nonces == {}


async def test_a_lease_that_lapsed_is_not_taken_anew_in_silence(
    world: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEWED_EVERY_S", 0.01)
    clock, looks = [0.0], 0

    def now() -> float:
        nonlocal looks
        looks += 1
        return clock[0]

    machine = await idle(world)
    async with leased(world.client, APP, machine, "asleep", now=now) as lease:
        clock[0], before = 100.0, looks  # the laptop wakes up
        await wait_until(lambda: looks > before, timeout=SOON, waiting_for="the renewal's look")
        for _ in range(3):  # what a renewal would ask for has been answered by then
            assert await lease_of(world.client, APP, machine) is not None
        with pytest.raises(LeaseHeldError, match="has ended"):
            lease.check()


async def test_l04_who_creates_a_machine_can_have_its_lease_at_once(
    world: Running, other: FlyClient
) -> None:
    body = {"name": "x", "region": "iad", "config": runs().to_wire(), "skip_launch": True,
            "lease_ttl": 13}  # fmt: skip
    made = (await answer(world, "POST", f"/apps/{APP}/machines", json=body)).json()
    with pytest.raises(LeaseHeldError):
        await other.start_machine(APP, made["id"])
    world.client.nonces[made["id"]] = made["nonce"]
    await world.client.start_machine(APP, made["id"])


async def test_m20_metadata_changes_without_a_lease_and_without_a_new_version(
    world: Running, other: FlyClient
) -> None:
    machine = await idle(world)
    before = await world.client.get_machine(APP, machine)
    path = f"/apps/{APP}/machines/{machine}/metadata"
    async with leased(other, APP, machine, "another's"):
        assert (await answer(world, "POST", f"{path}/a", json={"value": "1"})).status_code == 204
    assert (await answer(world, "GET", path)).json() == {"a": "1"}
    assert (await answer(world, "GET", f"{path}/a")).json() == {"value": "1"}
    assert (await answer(world, "DELETE", f"{path}/a")).status_code == 204
    assert (await answer(world, "DELETE", f"{path}/a")).status_code == 404
    assert (await world.client.get_machine(APP, machine)).instance_id == before.instance_id


async def test_s01_secrets_are_set_in_a_batch_and_reach_a_machine_at_its_next_start(
    world: Running,
) -> None:
    settings = AppSettings(world.client)
    code = "import os,time;print(os.environ.get('PASSWORD'),flush=True);time.sleep(60)"
    await settings.set_secrets(APP, {"PASSWORD": "old", "OTHER": "x"})
    machine = await world.client.create_machine(APP, name="", region="iad", config=runs(code))
    await _says(world, machine.id, "old")
    first = (await answer(world, "POST", f"/apps/{APP}/secrets", json={"values": {}})).json()
    await settings.set_secrets(APP, {"PASSWORD": "new", "OTHER": None})
    then = (await answer(world, "POST", f"/apps/{APP}/secrets", json={"values": {}})).json()
    assert then["version"] > first["version"]
    listed = (await answer(world, "GET", f"/apps/{APP}/secrets")).json()["secrets"]
    assert [(one["name"], "value" in one) for one in listed] == [("PASSWORD", False)]
    assert "new" not in str(listed)
    assert [one.value for one in await settings.secrets(APP)] == ["new"]
    assert world.globe.last_lines(machine.id, 5)[-1].endswith("old")
    await world.client.restart_machine(APP, machine.id)
    await _says(world, machine.id, "new")


async def test_all_of_a_batch_of_secrets_is_set_or_nothing(world: Running) -> None:
    for values in ({"GOOD": "x", "bad name": "y"}, {"GOOD": 7}, "x"):
        refused = await answer(world, "POST", f"/apps/{APP}/secrets", json={"values": values})
        assert refused.status_code in {400, 422}
    assert await AppSettings(world.client).secrets(APP) == []


async def test_addresses_and_certificates_are_kept_with_the_app(tmp_path: Path) -> None:
    async with platform(tmp_path / "home") as first:
        await first.client.create_app(APP)
        settings = AppSettings(first.client)
        for kind in ("shared_v4", "v6", "private_v6", "shared_v4"):
            await settings.add_address(APP, kind)
        await settings.add_certificate(APP, "shop.example.com")
        with pytest.raises(PlatformError, match="already exists"):
            await settings.add_certificate(APP, "shop.example.com")
        with pytest.raises(PlatformError, match="invalid hostname"):
            await settings.add_certificate(APP, "a b")
        with pytest.raises(PlatformError, match="must be one of"):
            await settings.add_address(APP, "v5")
    async with platform(tmp_path / "home") as second:
        settings = AppSettings(second.client)
        kinds = [one.kind for one in await settings.addresses(APP)]
        assert kinds == ["shared_v4", "v6", "private_v6"]
        assert await settings.certificates(APP) == ["shop.example.com"]
        shown = await settings.certificate(APP, "shop.example.com")
        assert shown is not None
        assert (len(shown.dns_requirements.a), len(shown.dns_requirements.aaaa)) == (1, 1)
        assert shown.dns_requirements.cname == f"{APP}.fly.dev"
        assert await settings.certificate(APP, "other.example.com") is None


async def test_calls_are_refused_on_purpose_as_often_as_was_asked(world: Running) -> None:
    refusal = {"method": "POST", "path": "/apps/*/machines", "status": 503, "skip": 1, "times": 2}
    await answer(world, "POST", "/globe/refusals", json=refusal)
    await idle(world, "first")
    for _ in range(2):
        with pytest.raises(PlatformError) as raised:
            await idle(world, "second")
        assert raised.value.status == 503
    await idle(world, "second")
    assert [m.name for m in await world.client.list_machines(APP)] == ["first", "second"]


async def test_a_call_whose_answer_is_lost_was_carried_out(world: Running) -> None:
    lost = {"method": "POST", "path": "/apps/*/machines", "status": 0}
    await answer(world, "POST", "/globe/refusals", json=lost)
    with pytest.raises(LostAnswerError):
        await idle(world)
    assert [m.name for m in await world.client.list_machines(APP)] == ["one"]
    await answer(world, "POST", "/globe/refusals", json=lost)
    assert (await answer(world, "DELETE", "/globe/refusals")).status_code == 200
    await idle(world, "two")


async def test_the_lease_of_a_machine_that_went_away_ends_quietly(world: Running) -> None:
    machine = await idle(world)
    async with leased(world.client, APP, machine, "mine"):
        await world.client.delete_machine(APP, machine)
        await world.client.wait_for(APP, machine, MachineState.DESTROYED, timeout=SOON)
    with pytest.raises(NotFoundError):
        await world.client.get_machine(APP, machine)


async def _says(world: Running, machine: str, wanted: str) -> None:
    def said() -> bool:
        return any(line.endswith(wanted) for line in world.globe.last_lines(machine, 50))

    await wait_until(said, timeout=SOON, waiting_for=f"the machine to say {wanted}")
