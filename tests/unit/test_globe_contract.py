"""The contract of the Machines API as far as no machine has to run: names carry the contract's ids.

Every answer is held against the documented types on its way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.unit.globe_world import CONFIG, World

from viral_engine.fly.model import MachineConfig, MachineState
from viral_engine.globe import platform as globe_platform
from viral_engine.globe.names import hosts
from viral_engine.globe.network.addresses import FIRST_MACHINE, NetworkMode
from viral_engine.globe.traffic import view_of

AT = "/apps/shop/machines"
NONCE = "fly-machine-lease-nonce"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.post("/apps", {"app_name": "shop"})
    async with asyncio.timeout(20):
        yield made
        await made.close()


async def call(
    world: World, method: str, path: str, body: Any = None, **more: Any
) -> httpx.Response:
    return await world.user.request(method, f"/v1{path}", json=body, **more)


async def shown(world: World, machine: str) -> dict[str, Any]:
    seen: dict[str, Any] = (await world.get(f"{AT}/{machine}")).json()
    return seen


async def test_a01_every_call_is_refused_without_the_token(world: World) -> None:
    async with httpx.AsyncClient(transport=world.user._transport, base_url="http://api") as other:
        for method, path in (("GET", "/apps"), ("POST", f"{AT}"), ("GET", "/weather")):
            refused = await other.request(method, f"/v1{path}")
            assert (refused.status_code, refused.json()) == (401, {"error": "unauthorized"})


async def test_a02_what_is_not_there_is_told_as_an_error(world: World) -> None:
    for method, path, status in (
        ("GET", "/apps/nobody", 404), ("GET", "/apps/nobody/machines", 404),
        ("GET", "/apps/nobody/volumes", 404), ("GET", "/apps/nobody/secrets", 404),
        ("GET", f"{AT}/none", 404), ("GET", f"{AT}/none/lease", 404),
        ("GET", "/apps/shop/volumes/vol_none", 404), ("GET", "/apps/shop/secrets/NONE", 404),
        ("DELETE", "/apps/shop/ip_assignments/1.2.3.4", 404),
        ("GET", "/apps/shop/certificates/a.example.com", 404),
        ("GET", "/weather", 404), ("PATCH", "/apps/shop", 405),
    ):  # fmt: skip
        refused = await call(world, method, path)
        assert (refused.status_code, bool(refused.json()["error"])) == (status, True), path


async def test_a03_an_app_is_made_shown_and_removed(world: World) -> None:
    made = await world.post("/apps", {"name": "other", "org_slug": "personal"})
    assert (made.status_code, made.json()["created_at"] > 1_700_000_000_000) == (201, True)
    again = await world.post("/apps", {"app_name": "other", "org_slug": "personal"})
    assert (again.status_code, again.json()["status"]) == (422, "name_taken")
    assert (await world.get("/apps/other")).json()["status"] == "pending"
    assert (await call(world, "DELETE", "/apps/other")).status_code == 202
    assert (await world.get("/apps/other")).status_code == 404


async def test_m04_a_full_region_is_told_by_its_status_word(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(globe_platform, "LAST_MACHINE", FIRST_MACHINE)
    await world.machine(region="iad")
    full = await world.post(AT, {"region": "iad", "config": CONFIG, "skip_launch": True})
    assert (full.status_code, full.json()["status"]) == (422, "insufficient_capacity")
    assert "could not find a candidate host" in full.json()["error"]


async def test_m05_a_full_region_of_a_list_is_passed_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(globe_platform, "LAST_MACHINE", FIRST_MACHINE)
    first, second = [await world.machine(region=asked) for asked in ("iad,lhr", "iad,any")]
    assert [(await shown(world, one))["region"] for one in (first, second)] == ["iad", "lhr"]


async def test_m06_an_update_keeps_what_the_machine_is_and_nothing_of_its_configuration(
    world: World,
) -> None:
    machine = await world.machine(name="one", config=CONFIG | {"env": {"A": "1"}, "size": "x"})
    before = await shown(world, machine)
    body = {"config": CONFIG, "skip_launch": True, "name": "two", "region": "iad"}
    after = (await world.post(f"{AT}/{machine}", body)).json()
    kept = ("id", "name", "region", "private_ip", "created_at")
    assert [after[key] for key in kept] == [before[key] for key in kept]
    assert after["instance_id"] != before["instance_id"]
    assert (after["config"]["env"], "size" in after["config"]) == ({}, False)
    moved = await world.post(f"{AT}/{machine}", body | {"region": "lhr"})
    assert 400 <= moved.status_code < 500


async def test_m07_of_two_updates_at_once_the_second_is_refused(world: World) -> None:
    machine = await world.machine()
    version = (await shown(world, machine))["instance_id"]
    for more in ({"current_version": version}, {}):
        bodies = [{"config": CONFIG | {"env": {"N": n}}, "skip_launch": True} for n in "12"]
        path = f"{AT}/{machine}"
        first, second = await asyncio.gather(*(world.post(path, b | more) for b in bodies))
        assert (first.status_code, second.status_code) == (200, 409)
        assert second.json()["error"] == "aborted: machine update failed due to concurrent update"
        assert (await shown(world, machine))["config"]["env"] == {"N": "1"}
    stale = await world.post(path, bodies[0] | {"current_version": version})
    assert stale.status_code == 409


async def test_m09_an_old_version_is_replaced_for_ever(world: World) -> None:
    machine = await world.machine(config=CONFIG | {"env": {"A": "1"}})
    old = (await shown(world, machine))["instance_id"]
    await world.post(f"{AT}/{machine}", {"config": CONFIG, "skip_launch": True})
    versions = (await world.get(f"{AT}/{machine}/versions")).json()
    assert [one["user_config"]["env"] for one in versions] == [{}, {"A": "1"}]
    assert versions[1]["version"] == old
    asked = (await world.get(f"{AT}/{machine}", version=old)).json()
    assert (asked["state"], asked["instance_id"], asked["config"]["env"]) == (
        "replaced", old, {"A": "1"},
    )  # fmt: skip
    assert (await shown(world, machine))["state"] == "created"
    unknown = await world.get(f"{AT}/{machine}", version="01AAAAAAAAAAAAAAAAAAAAAAAA")
    assert unknown.status_code == 404


async def test_m09_old_versions_outlive_the_platform_and_only_so_many_are_kept(
    world: World, tmp_path: Path
) -> None:
    machine = await world.machine()
    for number in range(12):
        config = CONFIG | {"env": {"N": str(number)}}
        await world.post(f"{AT}/{machine}", {"config": config, "skip_launch": True})
    later = World(tmp_path)
    await later.platform.restore()
    versions = (await later.get(f"{AT}/{machine}/versions")).json()
    await later.close()
    assert [one["user_config"]["env"]["N"] for one in versions] == [
        str(n) for n in range(11, 1, -1)
    ]


async def test_m13_a_machine_whose_host_is_full_does_not_start(world: World) -> None:
    machine = await world.machine()
    words = "aborted: could not reserve resource for machine: insufficient memory available"
    refusal = {"method": "POST", "path": f"{AT}/*/start", "status": 409, "body": {"error": words}}
    await world.post("/globe/refusals", refusal)
    refused = await world.post(f"{AT}/{machine}/start")
    assert (refused.status_code, refused.json()["error"]) == (409, words)
    assert (await shown(world, machine))["state"] == "created"


async def test_m16_a_machine_is_cordoned_from_birth_where_that_was_asked_for(world: World) -> None:
    machine = await world.machine(skip_service_registration=True)
    assert (await shown(world, machine))["cordoned"] is True
    await world.post(f"{AT}/{machine}/uncordon")
    assert (await shown(world, machine))["cordoned"] is False


async def test_m17_a_summary_leaves_out_what_is_long_and_deleted_machines_come_when_asked_for(
    world: World,
) -> None:
    machine, other = await world.machine(), await world.machine()
    await call(world, "DELETE", f"{AT}/{other}")
    (row,) = (await world.get(AT, summary="true")).json()
    assert {"config", "events", "checks", "host_status"} & set(row) == set()
    for asked, found in (("true", {machine, other}), ("false", {machine})):
        rows = (await world.get(AT, include_deleted=asked)).json()
        assert {row["id"] for row in rows} == found
    await world.post(f"{AT}/{machine}/lease", {"ttl": 30, "description": "a deploy"})
    (row,) = (await world.get(AT, include_leases="true")).json()
    assert (row["lease"]["description"], "nonce" in row["lease"]) == ("a deploy", False)


@pytest.mark.parametrize(
    ("asked", "told"),
    [("off", False), (False, False), ("stop", True), (True, True), ("suspend", "suspend")],
)
async def test_m19_autostop_is_asked_in_two_forms_and_told_in_one(
    world: World, asked: object, told: object
) -> None:
    config = CONFIG | {"services": [{"internal_port": 80, "autostop": asked}]}
    seen = await shown(world, await world.machine(config=config))
    assert seen["config"]["services"][0]["autostop"] == told


async def test_m19_another_autostop_is_refused(world: World) -> None:
    config = CONFIG | {"services": [{"internal_port": 80, "autostop": "maybe"}]}
    refused = await world.post(AT, {"region": "iad", "config": config, "skip_launch": True})
    assert refused.status_code == 400
    assert "autostop must be" in refused.json()["error"]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_m20_metadata_is_changed_at_once_unless_the_machine_is_another_version(
    world: World, method: str
) -> None:
    machine = await world.machine(config=CONFIG | {"metadata": {"a": "1", "b": "2", "c": "3"}})
    path, version = f"{AT}/{machine}/metadata", (await shown(world, machine))["instance_id"]
    await world.post(f"{AT}/{machine}/lease")
    change = {"a": "9", "b": None, "c": "", "d": "4"}
    done = await call(world, method, path, {"metadata": change, "machine_version": version})
    assert done.status_code == 204
    assert (await world.get(path)).json() == {"a": "9", "d": "4"}
    assert (await shown(world, machine))["instance_id"] == version
    other = {"metadata": {"a": "0"}, "machine_version": "01AAAAAAAAAAAAAAAAAAAAAAAA"}
    assert (await call(world, method, path, other)).status_code == 412
    assert (await call(world, method, path, {"metadata": {"a": 7}})).status_code == 400
    assert (await world.get(path)).json() == {"a": "9", "d": "4"}


async def test_w01_a_wait_ends_at_a_state_that_is_settled(world: World) -> None:
    machine = await world.machine()
    path = f"{AT}/{machine}/wait"
    done = (await world.get(path, state="settled", timeout="600")).json()
    assert (done["state"], done["event_id"]) == (
        "created", (await shown(world, machine))["events"][0]["id"],
    )  # fmt: skip
    late = await world.get(path, state="started,stopped", timeout="0.05")
    assert late.json()["error"] == (
        "deadline_exceeded: machine failed to reach desired state, started,stopped, "
        "currently created"
    )
    assert (await world.get(path, state="tired")).status_code == 400


async def test_w02_whoever_waits_for_a_machine_that_is_destroyed_is_told(world: World) -> None:
    machine = await world.machine()
    path = f"{AT}/{machine}/wait"
    ends = [asyncio.create_task(world.get(path, state=s)) for s in ("destroyed", "started")]
    await asyncio.sleep(0)  # both are asked before it goes
    await call(world, "DELETE", f"{AT}/{machine}")
    assert [(await end).status_code for end in ends] == [200, 404]
    assert (await world.get(path, state="destroyed")).json()["state"] == "destroyed"
    assert (await world.get(f"{AT}/00000000000000/wait")).status_code == 404


async def test_w03_a_wait_from_an_event_sees_what_passed_meanwhile(world: World) -> None:
    machine = await world.machine()
    first = (await shown(world, machine))["events"][0]["id"]
    record = world.platform.runner("shop", machine).record
    record.note("start", "started", source="flyd")
    record.note("exit", "stopped", source="flyd")
    record.state = MachineState.STOPPED
    path = f"{AT}/{machine}/wait"
    passed = await world.get(path, state="started", from_event_id=first, timeout="1")
    assert (passed.status_code, passed.json()["state"]) == (200, "stopped")
    latest = passed.json()["event_id"]
    for query in ({}, {"from_event_id": latest}):
        late = await world.get(path, state="started", timeout="0.05", **query)
        assert late.status_code == 408


async def test_l01_a_lease_tells_its_owner_end_and_version(world: World) -> None:
    machine = await world.machine()
    path = f"{AT}/{machine}/lease"
    taken = (await world.post(path, {"ttl": 30, "description": "a deploy"})).json()["data"]
    told = (await world.get(path)).json()["data"]
    assert {key: taken[key] for key in told} == told
    assert "nonce" not in told
    assert taken["version"] == (await shown(world, machine))["instance_id"]


async def test_l02_a_lease_guards_every_change_but_metadata_and_others_machines(
    world: World,
) -> None:
    machine = await world.machine()
    await world.post(f"{AT}/{machine}/lease", {"ttl": 30})
    for method, path in (
        ("POST", ""), ("DELETE", ""), ("POST", "/start"), ("POST", "/stop"), ("POST", "/suspend"),
        ("POST", "/restart"), ("POST", "/cordon"), ("POST", "/uncordon"), ("DELETE", "/lease"),
    ):  # fmt: skip
        refused = await call(world, method, f"{AT}/{machine}{path}", {"config": CONFIG})
        assert refused.status_code == 409, path
        assert "lease currently held by" in refused.json()["error"]
    done = await world.post(f"{AT}/{machine}/metadata/a", {"value": "1"})
    assert done.status_code == 204
    await world.machine()
    assert len((await world.get(AT)).json()) == 2


async def test_l03_a_lease_is_given_back_by_its_nonce_only(world: World) -> None:
    path = f"{AT}/{await world.machine()}/lease"
    nonce = (await world.post(path, {"ttl": 30})).json()["data"]["nonce"]
    for wrong in ({}, {NONCE: "another"}):
        assert 400 <= (await call(world, "DELETE", path, headers=wrong)).status_code < 500
    gone = await call(world, "DELETE", path, headers={NONCE: nonce})
    assert gone.json()["data"] == {"ok": True}
    assert (await world.get(path)).status_code == 404


async def test_s01_secrets_are_shown_by_their_digest_and_their_version_grows(world: World) -> None:
    path = "/apps/shop/secrets"
    first = (await world.post(path, {"values": {"A": "x", "B": "y"}})).json()
    one = await world.post(f"{path}/A", {"value": "z"})
    assert (one.status_code, one.json()["version"] > first["version"]) == (201, True)
    assert "value" not in one.json()
    shown_ = (await world.get(path, show_secrets="true")).json()["secrets"]
    assert [(row["name"], row["value"]) for row in shown_] == [("A", "z"), ("B", "y")]
    gone = (await call(world, "DELETE", f"{path}/B")).json()
    assert gone["version"] > one.json()["version"]
    hidden = (await world.get(path)).json()["secrets"]
    assert [(row["name"], "value" in row) for row in hidden] == [("A", False)]


async def test_s01_a_machine_is_not_made_or_changed_before_its_secrets_are_there(
    world: World,
) -> None:
    now = (await world.post("/apps/shop/secrets", {"values": {"A": "x"}})).json()["version"]
    machine = await world.machine(min_secrets_version=now)
    body = {"region": "iad", "config": CONFIG, "skip_launch": True, "min_secrets_version": now + 1}
    for path in (AT, f"{AT}/{machine}"):
        refused = await world.post(path, body)
        assert (refused.status_code, "secrets are at version" in refused.text) == (412, True)
    assert len((await world.get(AT)).json()) == 1


async def test_k02_a_check_of_the_machine_itself_does_not_change_routing(world: World) -> None:
    check = {"type": "tcp", "port": 1}
    service = {"internal_port": 80, "ports": [{"port": 80, "handlers": ["http"]}]}
    plain = MachineConfig.model_validate(CONFIG | {"services": [service]})
    machine = await world.machine(config=CONFIG | {"services": [service]})
    record = world.platform.runner("shop", machine).record
    record.state = MachineState.STARTED
    plan = world.platform.network.plan
    assert plan.mode is NetworkMode.WAN
    before = view_of("iad", plan=plan, machines=[record])
    record.config = plain.model_copy(
        update={"checks": MachineConfig.model_validate(CONFIG | {"checks": {"c": check}}).checks}
    )
    record.checks = {"c": {"name": "c", "status": "critical", "output": "", "updated_at": "now"}}
    assert view_of("iad", plan=plan, machines=[record]) == before
    assert before.http


async def test_g01_the_regions_of_this_globe_have_room_and_one_is_the_nearest(world: World) -> None:
    told = (await world.get("/platform/regions")).json()
    assert len(told["regions"]) == 18
    assert [row["code"] for row in told["regions"] if row["capacity"]] == ["iad", "lhr"]
    assert told["nearest"] == "iad"


async def test_a_volume_is_shown_as_destroyed_to_who_destroys_it(world: World) -> None:
    made = (await world.post("/apps/shop/volumes", {"name": "data", "region": "iad"})).json()
    assert (made["size_gb"], made["attached_machine_id"]) == (3, None)
    path = f"/apps/shop/volumes/{made['id']}"
    assert (await world.get(path)).json() == made
    assert (await call(world, "DELETE", path)).json()["state"] == "destroyed"
    assert (await world.get(path)).status_code == 404


async def test_addresses_and_certificates_are_told_as_documented(world: World) -> None:
    for kind in ("v4", "v6", "shared_v4", "private_v6"):
        made = (await world.post("/apps/shop/ip_assignments", {"type": kind})).json()
        assert made["shared"] is (kind == "shared_v4")
    rows = (await world.get("/apps/shop/ip_assignments")).json()["ips"]
    assert len(rows) == 4
    gone = await call(world, "DELETE", f"/apps/shop/ip_assignments/{rows[0]['ip']}")
    assert gone.status_code == 204
    path = "/apps/shop/certificates"
    made = await world.post(f"{path}/acme", {"hostname": "a.example.com"})
    assert (made.status_code, made.json()["status"]) == (201, "pending_validation")
    assert (await world.get(f"{path}/a.example.com")).json() == made.json()
    listed = (await world.get(path)).json()
    assert [row["hostname"] for row in listed["certificates"]] == ["a.example.com"]
    assert (await call(world, "DELETE", f"{path}/a.example.com")).status_code == 204


async def test_d01_a_machine_that_runs_has_its_names_and_one_that_is_cordoned_too(
    world: World,
) -> None:
    first, second, third = [await world.machine(region=one) for one in ("iad", "lhr", "lhr")]
    records = [world.platform.runner("shop", one).record for one in (first, second, third)]
    for record in records[:2]:
        record.state = MachineState.STARTED
    records[1].cordoned = True
    lines = dict(line.split(" ", 1) for line in hosts(records).splitlines()[2:])
    assert lines == {
        records[0].private_ip: f"{first}.vm.shop.internal iad.shop.internal shop.internal",
        records[1].private_ip: f"{second}.vm.shop.internal lhr.shop.internal shop.internal",
    }
