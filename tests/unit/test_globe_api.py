"""What callers of the API can send wrong: each is refused as theirs, and hurts nobody else."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.unit.globe_world import CONFIG, World

from viral_engine.errors import PlatformError
from viral_engine.globe.api.answers import LARGEST_BODY, number


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.post("/apps", {"app_name": "shop"})
    async with asyncio.timeout(20):
        yield made
        await made.close()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer secre"},
        {"authorization": "Bearer secret "},
        {"authorization": "Basic secret"},
        {"authorization": "Bearer s\xe9cret".encode("latin-1")},
    ],
)
async def test_only_the_whole_token_opens_the_api(
    world: World, headers: dict[str, str | bytes]
) -> None:
    transport = world.user._transport
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as stranger:
        raw = [(k.encode(), v if isinstance(v, bytes) else v.encode()) for k, v in headers.items()]
        assert (await stranger.get("/v1/apps/shop", headers=raw)).status_code == 401


@pytest.mark.parametrize("name", ["../etc", "a/b", ".", "..", "", "A", "-a", "a b", "a\n", "é", "a" * 64, 7.5])  # fmt: skip
async def test_an_app_whose_name_would_not_stand_in_a_path_is_refused(
    world: World, name: object
) -> None:
    answer = await world.post("/apps", {"app_name": name})
    assert answer.status_code in (400, 422)
    assert list(world.platform.apps) == ["shop"]


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000, b'{"app_name": "\\ud800"}', b'{"app_name": "a\\u0000"}'],
    ids=["cut", "list", "text", "bytes", "deep", "half character", "nul"],
)  # fmt: skip
async def test_a_body_that_is_no_object_of_text_is_the_callers_fault(
    world: World, body: bytes
) -> None:
    answer = await world.post("/apps", body)
    assert (answer.status_code, "error" in answer.json()) == (400, True)


async def test_a_body_that_is_too_large_is_not_read_to_its_end(world: World) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += 2**20
            yield b" " * 2**20

    answer = await world.user.post("/v1/apps", content=endless())
    assert answer.status_code == 413
    assert read > LARGEST_BODY


@pytest.mark.parametrize(
    "more",
    [
        {"config": None},
        {"config": {}},
        {"config": {"image": "x", "stop_config": {"signal": "SIGNOTHING"}}},
        {"config": {"image": "x", "stop_config": {"timeout": "soon"}}},
        {"config": {"image": "x", "stop_config": {"timeout": 1e300}}},
        {"config": {"image": "x", "stop_config": {"timeout": -1}}},
        {"config": {"image": "x", "checks": {"c": {"type": "tcp", "interval": math.nan}}}},
        {"config": {"image": "x", "env": {"A": "\0"}}},
    ],
)
async def test_a_machine_that_could_never_run_is_refused(world: World, more: Any) -> None:
    body = {"region": "iad", "skip_launch": True, **more}
    answer = await world.post("/apps/shop/machines", body)
    assert (answer.status_code, "error" in answer.json()) == (400, True)
    assert world.platform.machines() == []


@pytest.mark.parametrize("timeout", ["soon", "nan", "1s", "--1"])
async def test_a_wait_with_a_timeout_that_is_no_number_is_the_callers_fault(
    world: World, timeout: str
) -> None:
    path = f"/v1/apps/shop/machines/{await world.machine()}/wait"
    answer = await world.user.get(path, params={"timeout": timeout})
    assert (answer.status_code, "timeout must be a number" in answer.text) == (400, True)


@pytest.mark.parametrize("timeout", ["-5", "0", "1e-9"])
async def test_a_wait_without_time_ends_at_once(world: World, timeout: str) -> None:
    path = f"/v1/apps/shop/machines/{await world.machine()}/wait"
    assert (await world.user.get(path, params={"timeout": timeout})).status_code == 408


@pytest.mark.parametrize(("limit", "status"), [("x", 400), ("nan", 400), ("-1", 200), ("1e9", 200)])
async def test_a_limit_is_a_number(world: World, limit: str, status: int) -> None:
    path = f"/v1/apps/shop/machines/{await world.machine()}/events"
    answer = await world.user.get(path, params={"limit": limit})
    assert answer.status_code == status
    assert status == 400 or len(answer.json()) == 1


@pytest.mark.parametrize("size", ["x", [], {}, -1, 501, math.inf, True])
async def test_a_volume_has_a_sensible_size(world: World, size: object) -> None:
    body = {"name": "data", "region": "iad", "size_gb": size}
    assert (await world.post("/apps/shop/volumes", body)).status_code == 400
    assert world.platform.volumes == {}


@pytest.mark.parametrize("command", [None, [], "ls", {"a": 1}, ["a", 1], [["a"]], [None], 7])
async def test_exec_takes_a_list_of_text_only(world: World, command: object) -> None:
    path = f"/apps/shop/machines/{await world.machine()}/exec"
    assert (await world.post(path, {"command": command})).status_code == 400


async def test_exec_needs_a_machine_that_runs(world: World) -> None:
    path = f"/apps/shop/machines/{await world.machine()}/exec"
    assert (await world.post(path, {"command": ["ls"], "timeout": "x"})).status_code == 400
    assert (await world.post(path, {"command": ["ls"]})).status_code == 412


@pytest.mark.parametrize("body", [{"signal": "SIGX"}, {"timeout": "soon"}, {"timeout": 1e300}])
async def test_a_stop_that_makes_no_sense_is_refused(world: World, body: dict[str, object]) -> None:
    answer = await world.post(f"/apps/shop/machines/{await world.machine()}/stop", body)
    assert answer.status_code == 400


@pytest.mark.parametrize("volume", ["../..", "/etc", "vol_none", ""])
async def test_an_update_cannot_mount_what_is_no_volume_of_the_app(
    world: World, volume: str
) -> None:
    machine = await world.machine()
    config = CONFIG | {"mounts": [{"volume": volume, "path": "/data"}]}
    answer = await world.post(f"/apps/shop/machines/{machine}", {"config": config})
    assert answer.status_code == 404
    assert world.platform.runner("shop", machine).record.config.mounts == ()


async def test_an_update_cannot_mount_another_machines_volume_but_keeps_its_own(
    world: World,
) -> None:
    made = await world.post("/apps/shop/volumes", {"region": "iad"})
    mounted = CONFIG | {"mounts": [{"volume": made.json()["id"], "path": "/data"}]}
    owner, other = await world.machine(config=mounted), await world.machine()
    body = {"config": mounted, "skip_launch": True}
    assert (await world.post(f"/apps/shop/machines/{other}", body)).status_code == 409
    assert (await world.post(f"/apps/shop/machines/{owner}", body)).status_code == 200


async def test_two_machines_never_get_the_same_name(world: World) -> None:
    await world.machine(name="shop-iad-1")
    await world.machine()
    await world.machine()
    names = [record.name for record in world.platform.machines()]
    assert len(set(names)) == len(names) == 3


async def test_destroying_a_machine_twice_at_once_answers_both(world: World) -> None:
    path = f"/v1/apps/shop/machines/{await world.machine()}"
    first, second = await asyncio.gather(world.user.delete(path), world.user.delete(path))
    assert sorted([first.status_code, second.status_code]) == [200, 404]


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "nothing"},
        {"kind": "cut", "regions": 5},
        {"kind": "cut", "regions": "iad"},
        {"kind": "cut", "regions": ["iad", 7]},
        {"kind": "delay", "amount": "much"},
        {"kind": "delay", "amount": [1]},
        {"kind": "delay", "amount": True},
        {"kind": "loss", "amount": math.nan},
        {"kind": "pause", "machine": "nobody"},
        {"kind": "kill"},
        {"kind": "kill", "machine": "edge-fra"},
        {"kind": "outage"},
        {"kind": "outage", "regions": ["fra"]},
        {"kind": "outage", "regions": ["iad", "lhr"]},
    ],
)
async def test_a_fault_that_makes_no_sense_is_refused_and_not_put_in_force(
    world: World, body: dict[str, object]
) -> None:
    assert (await world.post("/globe/faults", body)).status_code == 400
    assert (world.faults.in_force(), world.applied) == ([], [])


async def test_faults_are_put_and_undone_one_by_one_and_all_together(world: World) -> None:
    ids = [
        (await world.post("/globe/faults", body)).json()["id"]
        for body in ({"kind": "blackout", "regions": ["iad"]}, {"kind": "loss", "amount": 0.5})
    ]
    assert len(world.applied[-1]) == 2
    assert (await world.user.delete(f"/v1/globe/faults/{ids[0]}")).status_code == 200
    assert [fault.kind for fault in world.applied[-1]] == ["loss"]
    assert (await world.user.delete(f"/v1/globe/faults/{ids[0]}")).status_code == 404
    assert (await world.user.delete("/v1/globe/faults")).json() == {"cleared": 1}
    assert not world.applied[-1]


async def test_an_outage_takes_the_hosts_of_a_region_and_gives_them_back(world: World) -> None:
    machine = await world.machine()
    put = await world.post("/globe/faults", {"kind": "outage", "regions": ["iad"]})
    again = await world.post("/globe/faults", {"kind": "outage", "regions": ["iad"]})
    assert (put.status_code, again.status_code) == (201, 400)
    with pytest.raises(PlatformError, match="unreachable"):
        await world.platform.runners[machine].order("start", "user")
    shown = (await world.user.get(f"/v1/apps/shop/machines/{machine}")).json()
    assert shown["host_status"] == "unreachable"
    assert [fault["kind"] for fault in world.faults.in_force()] == ["outage"]
    assert (await world.user.delete("/v1/globe/faults")).json() == {"cleared": 1}
    assert world.edges.done == [("take", "iad"), ("give", "iad")]


async def test_an_edge_can_be_frozen_and_killed_by_its_name(world: World) -> None:
    for kind in ("pause", "kill"):
        put = await world.post("/globe/faults", {"kind": kind, "machine": "edge-lhr"})
        assert put.status_code == 201
    assert [fault["machine"] for fault in world.faults.in_force()] == ["edge-lhr"]
    await world.user.delete("/v1/globe/faults")
    assert (world.edges.edge.done, world.faults.in_force()) == (["pause", "kill", "resume"], [])


async def test_the_state_on_disk_is_whole_and_its_owners_only(world: World) -> None:
    await world.machine(config=CONFIG | {"env": {"PASSWORD": "x"}})
    path = world.platform.home / "platform.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(json.loads(path.read_text())["machines"]) == 1
    assert not path.with_suffix(".new").exists()


def test_a_number_is_held_between_its_limits() -> None:
    for given, read in ((None, 5), ("", 5), ("7", 7), (0, 1), (-3, 1), ("inf", 9), (1e308, 9)):
        assert number(given, "n", default=5, least=1, most=9) == read
    refused: tuple[object, ...] = ("x", "nan", [], {}, True)
    for odd in refused:
        with pytest.raises(PlatformError, match="n must be a number"):
            number(odd, "n", default=5, least=1, most=9)
