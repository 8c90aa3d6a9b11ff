"""The platform keeps the contract of the Machines API: test names carry the contract's ids."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from tests.services.platform_world import APP, STUBBORN, WAITING, Running, platform, runs

from viral_engine.clock import wait_until
from viral_engine.errors import ConflictError, DeadlineError, NotFoundError, PlatformError
from viral_engine.fly.model import MachineState

SOON = timedelta(seconds=10)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Running]:
    async with platform(tmp_path / "home") as running:
        await running.client.create_app(APP)
        yield running


async def started(world: Running, code: str = WAITING, **more: object) -> str:
    machine = await world.client.create_machine(
        APP, name="", region="iad", config=runs(code, **more)
    )
    await world.client.wait_for(APP, machine.id, MachineState.STARTED, timeout=SOON)
    return machine.id


async def answer(world: Running, method: str, path: str, **more: object) -> httpx.Response:
    response: httpx.Response = await world.client.http.request(method, path, **more)  # type: ignore[arg-type]  # test shorthand
    return response


async def test_a01_a_call_without_the_token_is_refused(world: Running) -> None:
    url = f"{world.globe.api_url}/v1/apps/{APP}"
    async with httpx.AsyncClient(trust_env=False) as stranger:
        for headers in ({}, {"authorization": "Bearer wrong"}):
            assert (await stranger.get(url, headers=headers)).status_code == 401
        for kind in ("Bearer", "FlyV1"):
            headers = {"authorization": f"{kind} {world.globe.token}"}
            assert (await stranger.get(url, headers=headers)).status_code == 200


async def test_a02_an_unknown_app_is_not_found(world: Running) -> None:
    with pytest.raises(NotFoundError):
        await world.client.get_app("nobody")
    with pytest.raises(NotFoundError):
        await world.client.list_machines("nobody")


async def test_a03_an_app_is_made_once(world: Running) -> None:
    again = await answer(world, "POST", "/apps", json={"app_name": APP, "org_slug": "personal"})
    assert (again.status_code, again.json()["status"]) == (422, "name_taken")


async def test_a04_apps_are_listed_for_an_organization_only(world: Running) -> None:
    assert (await answer(world, "GET", "/apps")).status_code == 400
    assert [app.name for app in await world.client.list_apps()] == [APP]


async def test_m01_a_machine_is_created_and_starts(world: Running) -> None:
    machine = await world.client.create_machine(APP, name="one", region="lhr", config=runs())
    assert re.fullmatch(r"[0-9a-f]{14}", machine.id)
    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", machine.instance_id)
    assert (machine.state, machine.region) == ("created", "lhr")
    assert (machine.events[0].type, machine.events[0].source) == ("launch", "user")
    await world.client.wait_for(APP, machine.id, MachineState.STARTED, timeout=SOON)
    events = await world.client.events(APP, machine.id)
    assert (events[0].type, events[0].source, events[-1].type) == ("start", "flyd", "launch")
    assert events[0].timestamp >= events[-1].timestamp > 1_600_000_000_000


async def test_m02_skip_launch_leaves_a_machine_created(world: Running) -> None:
    machine = await world.client.create_machine(
        APP, name="one", region="iad", config=runs(), launch=False
    )
    with pytest.raises(DeadlineError, match="failed to reach desired state, started, currently c"):
        await world.client.wait_for(
            APP, machine.id, MachineState.STARTED, timeout=timedelta(seconds=1)
        )


async def test_m03_names_are_unique_within_an_app(world: Running) -> None:
    await world.client.create_machine(APP, name="one", region="iad", config=runs(), launch=False)
    with pytest.raises(ConflictError, match="already_exists: unique machine name violation"):
        await world.client.create_machine(APP, name="one", region="iad", config=runs())


async def test_m04_a_region_that_this_globe_lacks_is_refused(world: Running) -> None:
    with pytest.raises(PlatformError, match="syd is not one of this globe") as refused:
        await world.client.create_machine(APP, name="one", region="syd", config=runs())
    assert refused.value.status == 422


async def test_m05_the_first_region_of_a_list_that_there_is_wins(world: Running) -> None:
    for asked, got in (("syd,lhr,any", "lhr"), ("any", "iad")):
        machine = await world.client.create_machine(
            APP, name=f"to-{got}", region=asked, config=runs(), launch=False
        )
        assert machine.region == got


async def test_m06_an_update_replaces_the_configuration_whole(world: Running) -> None:
    machine = await started(world, env={"A": "1"})
    before = await world.client.get_machine(APP, machine)
    after = await world.client.update_machine(APP, machine, runs())
    assert (after.id, after.region, after.name) == (before.id, before.region, before.name)
    assert after.instance_id != before.instance_id
    assert (before.config.env, after.config.env) == ({"A": "1"}, {})
    moved = {"config": runs().to_wire(), "region": "lhr"}
    refused = await answer(world, "POST", f"/apps/{APP}/machines/{machine}", json=moved)
    assert refused.status_code == 422


async def test_m07_an_update_of_an_older_version_is_refused(world: Running) -> None:
    machine = await started(world)
    body = {"config": runs().to_wire(), "current_version": "01AAAAAAAAAAAAAAAAAAAAAAAA"}
    refused = await answer(world, "POST", f"/apps/{APP}/machines/{machine}", json=body)
    assert refused.status_code == 409
    assert "concurrent update" in refused.json()["error"]


async def test_m08_an_update_with_skip_launch_leaves_a_stopped_machine_stopped(
    world: Running,
) -> None:
    machine = await started(world)
    await world.client.stop_machine(APP, machine)
    await world.client.wait_for(APP, machine, MachineState.STOPPED, timeout=SOON)
    after = await world.client.update_machine(APP, machine, runs(), launch=False)
    assert after.state is MachineState.STOPPED


async def test_m10_stop_asks_by_the_signal_and_then_kills(world: Running) -> None:
    polite = await started(
        world,
        "import signal,sys;signal.signal(signal.SIGINT,lambda *_:sys.exit(3));print('up',flush=True);signal.pause()",
    )
    stubborn = await started(world, STUBBORN, stop_config={"signal": "SIGINT", "timeout": "1s"})
    for machine in (polite, stubborn):
        await _says(world, machine, "up")
        await world.client.stop_machine(APP, machine)
        await world.client.wait_for(APP, machine, MachineState.STOPPED, timeout=SOON)
    for machine, code in ((polite, 3), (stubborn, 137)):
        newest = (await world.client.events(APP, machine))[0]
        assert newest.type == "exit"
        assert newest.request is not None
        exit_event = newest.request["exit_event"]
        assert exit_event == {
            "exit_code": code, "guest_exit_code": code, "requested_stop": True, "oom_killed": False
        }  # fmt: skip


async def test_m11_restarts_follow_the_policy_and_end(world: Running) -> None:
    well = await world.client.create_machine(APP, name="well", region="iad", config=runs("pass"))
    loop = await world.client.create_machine(
        APP, name="loop", region="iad",
        config=runs("import sys;sys.exit(1)", restart={"policy": "on-failure", "max_retries": 2}),
    )  # fmt: skip
    never = await world.client.create_machine(
        APP, name="never", region="iad",
        config=runs("import sys;sys.exit(1)", restart={"policy": "no"}),
    )  # fmt: skip
    for machine, exits in ((well, 1), (loop, 3), (never, 1)):
        await world.client.wait_for(APP, machine.id, MachineState.STOPPED, timeout=SOON)
        events = await world.client.events(APP, machine.id, limit=50)
        counts = [e.request["restart_count"] for e in events if e.type == "exit" and e.request]
        assert counts == list(range(exits))[::-1], machine.name


async def test_m13_starting_what_runs_changes_nothing(world: Running) -> None:
    machine = await started(world)
    pid = (await world.client.get_machine(APP, machine)).instance_id
    await world.client.start_machine(APP, machine)
    assert (await world.client.get_machine(APP, machine)).instance_id == pid
    await world.client.stop_machine(APP, machine)
    await world.client.wait_for(APP, machine, MachineState.STOPPED, timeout=SOON)
    said = await answer(world, "POST", f"/apps/{APP}/machines/{machine}/start")
    assert said.json()["previous_state"] == "stopped"


async def test_m14_a_running_machine_is_destroyed_by_force_only(world: Running) -> None:
    machine = await started(world)
    with pytest.raises(ConflictError, match="failed_precondition"):
        await world.client.delete_machine(APP, machine)
    await world.client.delete_machine(APP, machine, force=True)
    with pytest.raises(NotFoundError):
        await world.client.delete_machine(APP, machine)
    assert await world.client.list_machines(APP) == []


async def test_m15_m16_a_cordoned_machine_runs_on(world: Running) -> None:
    machine = await started(world)
    await world.client.cordon_machine(APP, machine)
    seen = await world.client.get_machine(APP, machine)
    assert (seen.cordoned, seen.state) == (True, MachineState.STARTED)
    await world.client.uncordon_machine(APP, machine)
    assert not (await world.client.get_machine(APP, machine)).cordoned
    body = {"name": "dark", "region": "iad", "config": runs().to_wire(),
            "skip_service_registration": True}  # fmt: skip
    made = await answer(world, "POST", f"/apps/{APP}/machines", json=body)
    assert made.json()["cordoned"] is True


async def test_m17_machines_are_filtered(world: Running) -> None:
    for name, region, group in (("a", "iad", "app"), ("b", "lhr", "worker")):
        config = runs(metadata={"fly_process_group": group})
        await world.client.create_machine(
            APP, name=name, region=region, config=config, launch=False
        )
    for query, names in (
        ({"region": "lhr"}, ["b"]),
        ({"state": "created,stopped"}, ["a", "b"]),
        ({"state": "started"}, []),
        ({"metadata.fly_process_group": "app"}, ["a"]),
    ):
        found = await answer(world, "GET", f"/apps/{APP}/machines", params=query)
        assert sorted(row["name"] for row in found.json()) == names
    short = await answer(world, "GET", f"/apps/{APP}/machines", params={"summary": "true"})
    assert all("config" not in row for row in short.json())


async def test_m18_durations_are_text_or_nanoseconds(world: Running) -> None:
    for name, interval in (("text", "15s"), ("number", 15_000_000_000)):
        checks = {"c": {"type": "tcp", "port": 1, "interval": interval}}
        config = runs(checks=checks)
        machine = await world.client.create_machine(
            APP, name=name, region="iad", config=config, launch=False
        )
        assert machine.config.checks["c"].interval == timedelta(seconds=15)


async def test_w01_wait_returns_at_either_state_and_keeps_to_its_version(world: Running) -> None:
    machine = await started(world)
    path = f"/apps/{APP}/machines/{machine}/wait"
    either = await answer(world, "GET", path, params={"state": "stopped,started", "timeout": 5})
    assert either.json()["state"] == "started"
    other = {"state": "started", "version": "01AAAAAAAAAAAAAAAAAAAAAAAA", "timeout": 1}
    assert (await answer(world, "GET", path, params=other)).status_code == 408
    before = await world.client.get_machine(APP, machine)
    await world.client.update_machine(APP, machine, before.config)
    for state, status in (("stopped", 200), ("started", 408)):
        old = {"state": state, "version": before.instance_id, "timeout": 1}
        assert (await answer(world, "GET", path, params=old)).status_code == status


async def test_w02_a_wait_for_the_end_of_a_machine_ends(world: Running) -> None:
    machine = await started(world)
    await world.client.delete_machine(APP, machine, force=True)
    await world.client.wait_for(APP, machine, MachineState.DESTROYED, timeout=SOON)
    with pytest.raises(NotFoundError):
        await world.client.wait_for(APP, "00000000000000", MachineState.STARTED, timeout=SOON)


async def test_k01_a_service_check_turns_passing_and_critical_again(world: Running) -> None:
    server = (
        "import http.server,os\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "  def do_GET(s):\n"
        "    s.send_response(301 if os.path.exists('bad') else 204);s.end_headers()\n"
        "  def log_message(s,*a):pass\n"
        "http.server.HTTPServer((os.environ['FLY_PRIVATE_IP'],8080),H).serve_forever()"
    )
    check = {"type": "http", "path": "/", "interval": "1s", "timeout": "1s", "grace_period": "20s"}
    service = {"internal_port": 8080, "checks": [check]}
    machine = await started(world, server, services=[service])

    async def is_now(wanted: str) -> str | None:
        checks = (await world.client.get_machine(APP, machine)).checks
        assert [c.name for c in checks] == ["servicecheck-00-http-8080"]
        return checks[0].updated_at if checks[0].status == wanted else None

    passed = await wait_until(
        lambda: is_now("passing"), timeout=SOON, waiting_for="the check to pass"
    )
    folder = world.globe.spec.home / "machines" / machine
    (folder / "bad").touch()
    failed = await wait_until(
        lambda: is_now("critical"), timeout=SOON, waiting_for="the check to fail"
    )
    assert failed > passed


async def test_g01_all_regions_are_listed_with_their_places(world: Running) -> None:
    rows = await world.client.regions()
    assert len(rows) == 18
    assert all({"latitude", "longitude", "gateway_available", "geo_region"} <= set(r) for r in rows)


async def test_d02_a_machine_knows_where_it_is(world: Running) -> None:
    machine = await started(world, env={"MINE": "yes", "FLY_REGION": "spoofed"})
    result = await world.client.exec(APP, machine, ["env"], timeout=SOON)
    env = dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)
    seen = await world.client.get_machine(APP, machine)
    assert env["FLY_MACHINE_ID"] == machine
    assert (env["FLY_REGION"], env["FLY_APP_NAME"], env["MINE"]) == ("iad", APP, "yes")
    assert env["FLY_PRIVATE_IP"] == seen.private_ip
    assert "VIRAL_HOME" not in env


async def test_exec_tells_code_and_output_and_ends_in_time(world: Running) -> None:
    machine = await started(world)
    result = await world.client.exec(
        APP, machine, ["sh", "-c", "echo out; echo err >&2; exit 3"], timeout=SOON
    )
    assert (result.exit_code, result.stdout, result.stderr) == (3, "out\n", "err\n")
    with pytest.raises(DeadlineError):
        await world.client.exec(APP, machine, ["sleep", "60"], timeout=timedelta(seconds=1))


async def test_a_volume_is_a_folder_of_its_region_for_one_machine(world: Running) -> None:
    volume = await world.client.create_volume(APP, name="data", region="iad", size_gb=1)
    mounts = [{"volume": volume.id, "path": "/data"}]
    machine = await started(world, mounts=mounts)
    assert (await world.client.list_volumes(APP))[0].attached_machine_id == machine
    result = await world.client.exec(
        APP, machine, ["sh", "-c", "pwd; echo $VIRAL_DATA"], timeout=SOON
    )
    assert set(result.stdout.split()) == {str(world.globe.spec.home / "volumes" / volume.id)}
    with pytest.raises(ConflictError, match="is attached to"):
        await world.client.delete_volume(APP, volume.id)
    with pytest.raises(PlatformError, match="is in iad, not lhr"):
        await world.client.create_machine(APP, name="x", region="lhr", config=runs(mounts=mounts))
    with pytest.raises(ConflictError, match="attached to another"):
        await world.client.create_machine(APP, name="y", region="iad", config=runs(mounts=mounts))


async def test_a_signal_reaches_the_command(world: Running) -> None:
    code = "import os,signal,time;signal.signal(signal.SIGUSR1,lambda *_:os.write(1,b'heard\\n'));os.write(1,b'up\\n')\nwhile True:time.sleep(0.1)"
    machine = await started(world, code)
    await _says(world, machine, "up")
    await world.client.signal_machine(APP, machine, "SIGUSR1")
    await _says(world, machine, "heard")
    with pytest.raises(PlatformError, match="is not a signal"):
        await world.client.signal_machine(APP, machine, "SIGNOTHING")


async def test_a_killed_machine_leaves_no_descendant_and_comes_back(world: Running) -> None:
    code = "import subprocess,sys;p=subprocess.Popen(['sleep','4242'],start_new_session=True);print(p.pid,flush=True);p.wait()"
    machine = await started(world, code)
    child = int(await _says(world, machine, r"^\d+$"))
    await world.extension.add_fault("kill", machine=machine)
    await wait_until(lambda: not _alive(child), timeout=SOON, waiting_for="the child to be gone")

    async def restarted() -> bool:
        events = await world.client.events(APP, machine)
        return [e.type for e in events].count("start") >= 4

    await wait_until(restarted, timeout=SOON, waiting_for="a second start")


async def test_state_survives_the_platform_and_what_ran_runs_again(tmp_path: Path) -> None:
    async with platform(tmp_path / "home") as first:
        await first.client.create_app(APP)
        volume = await first.client.create_volume(APP, name="data", region="iad", size_gb=1)
        machine = await started(first, mounts=[{"volume": volume.id, "path": "/data"}])
        stopped = await started(first)
        await first.client.stop_machine(APP, stopped)
        await first.client.wait_for(APP, stopped, MachineState.STOPPED, timeout=SOON)
        await first.client.exec(APP, machine, ["sh", "-c", "echo kept > note"], timeout=SOON)
    async with platform(tmp_path / "home") as second:
        await second.client.wait_for(APP, machine, MachineState.STARTED, timeout=SOON)
        kept = await second.client.exec(APP, machine, ["cat", "note"], timeout=SOON)
        assert kept.stdout == "kept\n"
        assert (await second.client.get_machine(APP, stopped)).state is MachineState.STOPPED


async def test_a_paused_machine_stands_still_until_the_fault_is_undone(world: Running) -> None:
    code = "import time\nwhile True:\n  print(time.monotonic(),flush=True);time.sleep(0.05)"
    machine = await started(world, code)
    await _says(world, machine, r"^\d")
    fault = await world.extension.add_fault("pause", machine=machine)
    await asyncio.sleep(0.3)  # what was under way when the machine stopped is read by then
    before = world.globe.last_lines(machine, 1)
    await asyncio.sleep(0.5)  # long enough for ten lines of a machine that runs
    assert world.globe.last_lines(machine, 1) == before
    await world.extension.clear_fault(fault)

    def goes_on() -> bool:
        return world.globe.last_lines(machine, 1) != before

    await wait_until(goes_on, timeout=SOON, waiting_for="the machine to go on")


async def _says(world: Running, machine: str, pattern: str) -> str:
    def said() -> str | None:
        lines = world.globe.last_lines(machine, 50)
        return next((line for line in lines if re.search(pattern, line)), None)

    return await wait_until(said, timeout=SOON, waiting_for=f"the machine to say {pattern}")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_names_and_commands_that_cannot_be_are_refused(world: Running) -> None:
    at = f"/apps/{APP}/machines"
    good = {"region": "iad", "config": runs().to_wire()}
    for body in (
        good | {"name": "../../../etc"},
        good | {"name": 7},
        {"region": "iad", "config": {"image": "x"}},
    ):
        assert (await answer(world, "POST", at, json=body)).status_code == 422, body
    assert await world.client.list_machines(APP) == []
    idle = await answer(
        world, "POST", at, json={"region": "iad", "config": {"image": "x"}, "skip_launch": True}
    )
    started_idle = await answer(world, "POST", f"{at}/{idle.json()['id']}/start")
    assert started_idle.status_code == 422
