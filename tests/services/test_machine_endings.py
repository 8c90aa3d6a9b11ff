"""How machines end, rest and begin again: names carry the contract's ids."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.services.platform_world import APP, WAITING, Running, platform, runs

from viral_engine.clock import wait_until
from viral_engine.errors import ConflictError
from viral_engine.fly.model import Machine, MachineState
from viral_engine.globe.platform import Platform

SOON = timedelta(seconds=10)
TICKING = "import time\nwhile True:\n  print('tick',time.monotonic(),flush=True);time.sleep(0.02)"
TELLING = (
    "import os,signal,sys,time\n"
    "for s in (signal.SIGINT,signal.SIGTERM):\n"
    "  signal.signal(s,lambda n,_:(os.write(1,b'got %d\\n'%n),sys.exit(0)))\n"
    "os.write(1,b'up\\n')\n"
    "while True: time.sleep(0.1)"
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Running]:
    async with platform(tmp_path / "home") as running:
        await running.client.create_app(APP)
        yield running


async def made(world: Running, code: str = WAITING, **more: object) -> Machine:
    return await world.client.create_machine(APP, name="", region="iad", config=runs(code, **more))


async def says(world: Running, machine: str, pattern: str, *, times: int = 1) -> None:
    def said() -> bool:
        lines = world.globe.last_lines(machine, 50)
        return sum(re.search(pattern, line) is not None for line in lines) >= times

    await wait_until(said, timeout=SOON, waiting_for=f"the machine to say {pattern} {times} times")


def behind(world: Running) -> Platform:
    assert world.globe._platform is not None
    return world.globe._platform


async def listed(world: Running, **query: str) -> dict[str, Any]:
    found = await world.client.request("GET", f"/apps/{APP}/machines", params=query)
    return {row["id"]: row["state"] for row in found}


async def test_m12_a_machine_that_destroys_itself_is_gone_after_its_end(
    world: Running, tmp_path: Path
) -> None:
    done = await made(world, "pass", auto_destroy=True)
    stays = await made(world, "pass")
    await world.client.wait_for(APP, done.id, MachineState.DESTROYED, timeout=SOON)
    await world.client.wait_for(APP, stays.id, MachineState.STOPPED, timeout=SOON)
    assert await listed(world) == {stays.id: "stopped"}
    everybody = await listed(world, include_deleted="true")
    assert everybody == {stays.id: "stopped", done.id: "destroyed"}
    assert done.id not in (tmp_path / "home" / "platform.json").read_text("utf-8")


async def test_m12_a_machine_that_fails_destroys_itself_after_its_last_retry(
    world: Running,
) -> None:
    restart = {"policy": "on-failure", "max_retries": 1}
    machine = await made(world, "import sys;sys.exit(1)", auto_destroy=True, restart=restart)
    await world.client.wait_for(APP, machine.id, MachineState.DESTROYED, timeout=SOON)
    record = behind(world).destroyed[machine.id]
    assert [event["type"] for event in record.events].count("exit") == 2
    assert (record.events[0]["type"], record.events[0]["source"]) == ("destroy", "flyd")


async def test_a_suspended_machine_stands_still_until_it_is_started(world: Running) -> None:
    machine = (await made(world, TICKING)).id
    idle = await world.client.create_machine(
        APP, name="", region="iad", config=runs(), launch=False
    )
    with pytest.raises(ConflictError, match="unable to suspend machine from state"):
        await world.client.request("POST", f"/apps/{APP}/machines/{idle.id}/suspend")
    await says(world, machine, "^tick")
    await world.client.request("POST", f"/apps/{APP}/machines/{machine}/suspend")
    await world.client.wait_for(APP, machine, MachineState.SUSPENDED, timeout=SOON)
    with pytest.raises(ConflictError, match="is not running"):
        await world.client.exec(APP, machine, ["true"], timeout=SOON)
    process = behind(world).runner(APP, machine).process
    assert process is not None
    await wait_until(
        lambda: _all_stopped(process.pid), timeout=SOON, waiting_for="the command to stand still"
    )
    before = await world.client.events(APP, machine)
    assert (before[0].type, before[0].status) == ("suspend", "suspended")
    await world.client.start_machine(APP, machine)
    await world.client.wait_for(APP, machine, MachineState.STARTED, timeout=SOON)
    assert not _all_stopped(process.pid)
    assert behind(world).runner(APP, machine).process is process
    await world.client.request("POST", f"/apps/{APP}/machines/{machine}/suspend")
    await world.client.stop_machine(APP, machine)
    await world.client.wait_for(APP, machine, MachineState.STOPPED, timeout=SOON)


async def test_a_restart_asks_by_the_signal_that_it_was_told(world: Running) -> None:
    machine = (await made(world, TELLING)).id
    path = f"/apps/{APP}/machines/{machine}/restart"
    for times, query, number in ((1, {}, 2), (2, {"signal": "SIGTERM", "timeout": "9"}, 15)):
        await says(world, machine, "^up", times=times)
        await world.client.request("POST", path, params=query)
        await says(world, machine, f"^got {number}$")
    await says(world, machine, "^up", times=3)
    await world.client.request("POST", path, params={"force_stop": "true"})
    events = await world.client.events(APP, machine, limit=50)
    codes = [e.request["exit_event"]["exit_code"] for e in events if e.request]
    assert codes == [137, 0, 0]


async def test_a_command_in_its_old_form_is_one_text(world: Running) -> None:
    machine = (await made(world)).id
    await world.client.wait_for(APP, machine, MachineState.STARTED, timeout=SOON)
    path = f"/apps/{APP}/machines/{machine}/exec"
    told = await world.client.request("POST", path, json={"cmd": "echo 'one word' two"})
    assert told["stdout"] == "one word two\n"


async def test_w03_what_passed_while_nobody_waited_is_told(world: Running) -> None:
    machine = await made(world, "pass")
    await world.client.wait_for(APP, machine.id, MachineState.STOPPED, timeout=SOON)
    path = f"/apps/{APP}/machines/{machine.id}/wait"
    query = {"state": "started", "from_event_id": machine.events[0].id, "timeout": "5"}
    told = await world.client.request("GET", path, params=query)
    assert (told["ok"], told["state"]) == (True, "stopped")


def _all_stopped(init: int) -> bool:
    children = psutil.Process(init).children(recursive=True)
    return bool(children) and all(one.status() == psutil.STATUS_STOPPED for one in children)
