"""The guide's picture on one machine: what people see of it, in either network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from datetime import timedelta

import httpx
import pytest
from tests.globe.conftest import GlobeUnderTest

from viral_engine.clock import NotYet, wait_until

MOVES_WITHIN = timedelta(seconds=3)
SOON = timedelta(seconds=20)


def new_task(globe: GlobeUnderTest, region: str, title: str) -> httpx.Response:
    with globe.edge(region) as user:
        return user.post("/api/tasks", json={"title": title})


async def test_every_machine_of_the_picture_is_healthy(globe: GlobeUnderTest) -> None:
    def all_pass() -> bool:
        return all(one["health"] == "passing" for one in globe.status()["machines"])

    await wait_until(all_pass, timeout=SOON, waiting_for="every check to pass at once")
    facts = globe.status()
    seen = sorted((m["region"], m["role"], m["state"], m["health"]) for m in facts["machines"])
    running = ("started", "passing")
    assert seen == sorted(
        [
            *[("iad", "app", *running)] * 2,
            *[("lhr", "app", *running)] * 3,
            ("iad", "database", *running),
            ("lhr", "database", *running),
            ("yyz", "witness", *running),
            ("iad", "cache", *running),
            ("lhr", "cache", *running),
        ]
    )
    assert all({"id", "region", "role", "state", "health"} <= set(m) for m in facts["machines"])


def test_what_there_really_is_costs_what_was_declared(globe: GlobeUnderTest) -> None:
    facts = json.loads((globe.home / "run.json").read_text())
    api, token = facts["addresses"]["api"], facts["token"]
    to_fly = ("--actual", "--to", "fly", "--json")  # the same wire, by another base URL
    for bill in (
        globe.viral("cost", "--actual", "--json"),
        globe.viral("cost", *to_fly, FLY_FLAPS_BASE_URL=api, FLY_API_TOKEN=token),
    ):
        assert bill.code == 0, bill.err or bill.out
        assert bill.json["actual"]["lines"] == bill.json["lines"]
    refused = globe.viral("cost", *to_fly, FLY_FLAPS_BASE_URL=api, FLY_API_TOKEN="wrong")
    assert refused.code == 1


def test_status_tells_network_addresses_and_database(globe: GlobeUnderTest) -> None:
    facts = globe.status()
    assert facts["network"] == ("wan" if globe.is_wan else "flat")
    assert set(facts["addresses"]) == {"anycast", "edges", "api"}
    assert set(facts["addresses"]["edges"]) == {"iad", "lhr"}
    assert facts["database"]["primary"] == "iad"
    (replica,) = facts["database"]["replicas"]
    assert replica["region"] == "lhr"
    assert replica["lag_seconds"] < 5
    assert facts["database"]["settings_not_in_force"] == []
    assert {"postgres", "etcd", "valkey", "envoy", "patroni"} <= set(facts["engines"])


async def test_etcd_is_led_from_the_witness_region(globe: GlobeUnderTest) -> None:
    def led() -> bool:
        return bool(globe.status()["database"]["etcd_leader"] == "yyz")

    await wait_until(led, timeout=SOON, waiting_for="the witness to lead etcd")


async def test_a_write_from_london_is_served_in_virginia_and_read_in_london(
    globe: GlobeUnderTest,
) -> None:
    title = f"task {uuid.uuid4()}"
    written = new_task(globe, "lhr", title)
    assert written.status_code == 201
    assert written.headers["viral-region"] == "iad"
    assert "fly-replay" not in written.headers

    def read() -> httpx.Response | None:
        with globe.edge("lhr") as user:
            answer = user.get(written.headers["location"])
        return answer if answer.status_code == 200 else None

    answer = await wait_until(read, timeout=SOON, waiting_for="the row to reach the replica")
    assert answer.headers["viral-region"] == "lhr"
    assert answer.headers["viral-route"].startswith("local")
    assert answer.json()["title"] == title


def test_a_session_sees_its_own_writes_near_at_once(globe: GlobeUnderTest) -> None:
    """A client that carries its token never waits for replication by guessing."""
    served = []
    with globe.edge("lhr") as user:
        for number in range(30):
            written = user.post("/api/tasks", json={"title": f"own {number}"})
            token = written.headers["viral-session"]
            read = user.get(written.headers["location"], headers={"viral-session": token})
            assert (read.status_code, read.json()["title"]) == (200, f"own {number}")
            served.append(read.headers["viral-region"])
    assert served.count("lhr") >= 27, "nearly all of them by the replica next door"


def test_exec_has_the_latencies_of_its_region(wan_globe: GlobeUnderTest) -> None:
    written = wan_globe.curl("lhr", "/api/tasks", "-X", "POST", "-H",
                             "content-type: application/json", "-d", '{"title":"by curl"}')  # fmt: skip
    assert (written.status_code, written.headers["viral-region"]) == (201, "iad")
    read = wan_globe.curl("lhr", "/api/tasks")
    assert (read.status_code, read.headers["viral-region"]) == (200, "lhr")
    far = wan_globe.viral("exec", "lhr", "--", "curl", "-s", "-o", "/dev/null", "-w",
                          "%{time_total}", wan_globe.ready["addresses"]["edges"]["iad"])  # fmt: skip
    assert float(far.out) >= 0.075  # one round trip to iad, and no less


def test_databases_keep_the_windows_of_their_connections_open(wan_globe: GlobeUnderTest) -> None:
    machines = wan_globe.viral("machines", "--json").json
    for machine in (one for one in machines if one["role"] == "database"):
        found = wan_globe.inside(machine, "cat", "/proc/sys/net/ipv4/tcp_slow_start_after_idle")
        assert found["stdout"].strip() == "0", found


def test_d01_machines_find_each_other_by_name_and_nothing_else(wan_globe: GlobeUnderTest) -> None:
    machines = wan_globe.viral("machines", "--json").json
    app = next(m for m in machines if m["role"] == "app" and m["region"] == "lhr")
    database = next(m for m in machines if m["role"] == "database" and m["region"] == "iad")
    look_up = "import socket,sys;print(socket.gethostbyname(sys.argv[1]))"
    for name in (f"{database['id']}.vm.viral-engine-db.internal", "iad.viral-engine-db.internal"):
        found = wan_globe.inside(app, sys.executable, "-c", look_up, name)
        assert found["stdout"].strip() == database["private_ip"], found
    started = time.monotonic()
    outside = wan_globe.inside(app, sys.executable, "-c", look_up, "example.com")
    assert outside["exit_code"] == 1
    assert time.monotonic() - started < 8, "a name that nobody knows must fail at once"


def test_exec_hands_the_exit_code_on(globe: GlobeUnderTest) -> None:
    assert globe.viral("exec", "lhr", "--", "sh", "-c", "exit 7").code == 7
    refused = globe.viral("exec", "syd", "--", "true")
    assert (refused.code, "It has: iad, lhr, yyz" in refused.err) == (2, True)
    assert globe.viral("exec", "iad", "--", "no-such-command").code == 2


def test_logs_of_all_machines_are_one_stream_in_order(globe: GlobeUnderTest) -> None:
    entries = [json.loads(line) for line in globe.viral("logs", "--json").out.splitlines()]
    assert [e["at"] for e in entries] == sorted(e["at"] for e in entries)
    assert {"database", "witness", "edge"} <= {e["role"] for e in entries}
    london = [
        json.loads(x) for x in globe.viral("logs", "--json", "--region", "lhr").out.splitlines()
    ]
    assert {e["region"] for e in london} == {"lhr"}


def test_logs_follow_until_the_reader_leaves(globe: GlobeUnderTest) -> None:
    command = [sys.executable, "-m", "viral_engine.cli.main", "logs", "-f"]
    env = os.environ | {"VIRAL_HOME": str(globe.home)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as logs:
        assert logs.stdout is not None
        assert logs.stderr is not None
        assert all(logs.stdout.readline() for _ in range(3))
        logs.stdout.close()
        with globe.edge("iad") as user:  # what the edge writes of this meets the closed pipe
            user.get("/api/health")
        assert logs.wait(timeout=20) == 0
        assert logs.stderr.read() == b""


def test_an_app_knows_where_it_is_and_where_everything_else_is(globe: GlobeUnderTest) -> None:
    with globe.edge("lhr") as user:
        health = user.get("/api/health")
        regions = user.get("/api/regions")
    assert health.json()["region"] == "lhr"
    nodes = {node["region"]: node for node in regions.json()["nodes"]}
    assert regions.json()["primary_region"] == "iad"
    assert (nodes["iad"]["role"], nodes["lhr"]["role"]) == ("primary", "replica")
    assert all(node["reachable"] for node in nodes.values())


def test_a_second_globe_in_the_same_folder_is_refused(globe: GlobeUnderTest) -> None:
    refused = globe.viral("up", "--json")
    assert refused.code == 1
    assert json.loads(refused.out)["error"]["kind"] == "AlreadyRunningError"


async def test_a_killed_app_machine_comes_back_and_nobody_notices(globe: GlobeUnderTest) -> None:
    machine = next(m for m in globe.status()["machines"] if m["name"] == "app-lhr-1")
    assert globe.viral("fault", "kill", machine["id"]).code == 0
    with globe.edge("lhr") as user:
        codes = [user.get("/api/tasks?limit=1").status_code for _ in range(30)]
    assert codes == [200] * 30

    def back() -> bool:
        rows = globe.viral("machines", "--json").json
        return all(row["health"] == "passing" for row in rows)

    await wait_until(back, timeout=SOON, waiting_for="the machine to be healthy again")


async def test_a_paused_machine_is_routed_around(globe: GlobeUnderTest) -> None:
    machine = next(m for m in globe.status()["machines"] if m["name"] == "app-lhr-2")
    fault = globe.viral("fault", "pause", machine["id"], "--json").json["id"]
    try:

        def avoided() -> bool:
            """Requests that it holds already hang with it; new ones must go elsewhere."""
            with globe.edge("lhr") as user:
                try:
                    served = {user.get("/api/health", timeout=2).headers["viral-machine"]
                              for _ in range(12)}  # fmt: skip
                except httpx.TimeoutException:
                    return False
            return machine["id"] not in served

        await wait_until(avoided, timeout=SOON, waiting_for="the edge to avoid it")
    finally:
        assert globe.viral("fault", "clear", fault).code == 0


async def test_users_of_a_lost_region_are_led_to_the_next_edge(wan_globe: GlobeUnderTest) -> None:
    assert wan_globe.viral("fault", "blackout", "lhr").code == 0
    lost = time.monotonic()
    try:

        def moved() -> bool:
            return bool(wan_globe.told()["anycast"].get("users:lhr") == "iad")

        await wait_until(moved, timeout=timedelta(seconds=30), waiting_for="anycast to move")
        took = time.monotonic() - lost
        answer = wan_globe.curl("lhr", "/api/tasks?limit=1")
        assert (answer.status_code, answer.headers["viral-region"]) == (200, "iad")
        assert took < 2 * MOVES_WITHIN.total_seconds()  # the promise, on a machine that is busy
    finally:
        wan_globe.viral("fault", "clear")

    def home_again() -> bool | NotYet:
        answer = wan_globe.try_curl("lhr", "/api/tasks?limit=1")
        if isinstance(answer, str):  # it was under way when users were led back
            return NotYet(answer)
        return bool(answer.headers.get("viral-region") == "lhr")

    await wait_until(home_again, timeout=timedelta(seconds=60), waiting_for="London to serve again")


async def test_a_cut_pair_keeps_local_reads_and_its_packets_are_counted(
    wan_globe: GlobeUnderTest,
) -> None:
    fault = wan_globe.viral("fault", "cut", "iad", "lhr", "--json").json["id"]
    try:
        read = wan_globe.curl("lhr", "/api/tasks?limit=1")
        assert (read.status_code, read.headers["viral-region"]) == (200, "lhr")
    finally:
        wan_globe.viral("fault", "clear", fault)

    def healed() -> bool:
        status = wan_globe.status()
        replicas = status["database"]["replicas"]
        return bool(status["database"]["primary"]) and all(
            r["lag_seconds"] is not None and r["lag_seconds"] < 5 for r in replicas
        )

    await wait_until(healed, timeout=timedelta(seconds=60), waiting_for="replication to go on")


def test_delay_and_loss_are_felt_and_undone(wan_globe: GlobeUnderTest) -> None:
    far = wan_globe.ready["addresses"]["edges"]["iad"]

    def measure() -> float:
        timed = wan_globe.viral("exec", "lhr", "--", "curl", "-s", "-o", "/dev/null", "-w",
                                "%{time_total}", f"{far}/api/health")  # fmt: skip
        return float(timed.out)

    assert wan_globe.viral("fault", "delay", "4").code == 0
    try:
        slow = measure()
    finally:
        wan_globe.viral("fault", "clear")
    assert slow >= 0.3


def test_faults_that_make_no_sense_are_refused(globe: GlobeUnderTest) -> None:
    for args in (("kill", "nobody"), ("pause", "nobody")):
        refused = globe.viral("fault", *args)
        assert refused.code != 0
        assert "viral machines" in refused.err or "running" in refused.err
    refused = globe.viral("fault", "cut", "iad", "syd")
    assert refused.code != 0
    if globe.is_wan:
        assert "no region syd" in refused.err
    else:
        assert "needs the wan network" in refused.err


@pytest.mark.timeout(420)
async def test_the_end_leaves_nothing_but_data_and_the_next_start_has_it(
    globe: GlobeUnderTest,
) -> None:
    mode = "wan" if globe.is_wan else "flat"
    title = f"kept {uuid.uuid4()}"
    task = new_task(globe, "iad", title).headers["location"]
    assert globe.viral("down", timeout=120).code == 0
    assert globe.processes() == []
    assert not (globe.home / "run.json").exists()

    assert globe.up("--network", mode).code == 0
    with globe.edge("iad") as user:
        assert user.get(task).json()["title"] == title

    pid = globe.status()["pid"]
    os.kill(pid, signal.SIGKILL)
    await wait_until(lambda: globe.processes() == [], timeout=timedelta(seconds=30),
                     waiting_for="every process to be gone after SIGKILL")  # fmt: skip
    assert globe.viral("status").code == 1

    assert globe.up("--network", mode).code == 0, "a globe that was killed comes back"
    with globe.edge("iad") as user:
        assert user.get(task).json()["title"] == title
