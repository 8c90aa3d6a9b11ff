"""Two regions and a witness keep one database: it forms, heals, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast

import psutil
import psycopg
import pytest
from tests.services.nodes_world import NODES, World, command_of, processes_in, world

from viral_engine.clock import wait_until
from viral_engine.cluster.etcd import EtcdGateway
from viral_engine.cluster.wire import UnreachableError
from viral_engine.errors import DatabaseError
from viral_engine.nodes import ctl
from viral_engine.nodes.machine import EtcdCluster
from viral_engine.nodes.profile import POSTGRES_PARAMETERS

STREAMING = "SELECT FROM pg_stat_replication WHERE application_name = 'lhr' AND state = 'streaming'"


@pytest.fixture(scope="module")
def trio() -> Iterator[World]:
    with world("iad", "lhr", "yyz") as here:
        # The replica first: whoever comes first, only the primary's region may create the data.
        here.start("lhr", "database")
        here.start("yyz", "witness")
        here.start("iad", "database")
        yield here


async def test_a_cold_start_ends_with_a_primary_in_its_region_and_a_synchronous_replica(
    trio: World, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = time.monotonic()
    took = {}
    for step, region, sql in (
        ("writable", "iad", "SELECT WHERE NOT pg_is_in_recovery()"),
        ("streaming", "iad", STREAMING),
    ):
        await trio.until(region, sql)
        took[step] = round(time.monotonic() - begun, 1)
    await trio.until_synchronous("iad")
    took["synchronous"] = round(time.monotonic() - begun, 1)
    with capsys.disabled():
        sys.stdout.write(f"\ncold start, in seconds: {took}\n")
    await trio.until("lhr", "SELECT WHERE pg_is_in_recovery()", user="viral_app")


async def test_the_application_writes_as_the_owner_of_its_database_and_is_no_superuser(
    trio: World,
) -> None:
    trio.ask("iad", "CREATE TABLE tasks (id int PRIMARY KEY)", user="viral_app")
    trio.ask("iad", "SET synchronous_commit = remote_apply", user="viral_app")
    trio.ask("iad", "INSERT INTO tasks VALUES (1)", user="viral_app")
    await trio.until("lhr", "SELECT FROM tasks", user="viral_app")
    rights = "rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls"
    assert trio.ask("iad", f"SELECT {rights} FROM pg_roles WHERE rolname = 'viral_app'") == [
        (False,) * 5
    ]
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'viral'"
    assert trio.ask("iad", owner) == [("viral_app",)]


def test_a_wrong_password_is_refused_everywhere(trio: World) -> None:
    for region in ("iad", "lhr"):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(
                host=trio.addresses[region], user="postgres", password="no", dbname="viral"
            )


@pytest.mark.parametrize("region", ["iad", "lhr"])
def test_the_settings_in_force_are_those_asked_for(trio: World, region: str) -> None:
    assert trio.ask(region, "SHOW data_checksums") == [("on",)]
    assert trio.ask(region, "SELECT name FROM pg_settings WHERE pending_restart") == []
    # As the file says it and the server took it; what came by command line is not of the file.
    rows = trio.ask(region, "SELECT name, setting FROM pg_file_settings WHERE applied")
    taken = {str(row[0]): row[1] for row in rows}
    for name, wanted in POSTGRES_PARAMETERS.items():
        found = taken.get(name) or trio.ask(region, f"SELECT current_setting('{name}')")[0][0]
        assert (name, found) == (name, str(wanted))


async def test_status_tells_roles_positions_and_leaders_and_that_nothing_was_clamped(
    trio: World,
) -> None:
    here, there = await ctl.status(trio.environ("iad")), await ctl.status(trio.environ("lhr"))
    assert (here["role"], here["lag_seconds"], here["differences"]) == ("primary", 0.0, [])
    assert (there["role"], there["primary"], there["timeline"]) == ("replica", "iad", 1)
    members = cast("list[dict[str, object]]", here["members"])
    assert [(one["region"], one["synchronous"]) for one in members] == [
        ("iad", False),
        ("lhr", True),
    ]
    assert json.loads(json.dumps(here)) == here


async def test_the_witness_draws_the_leadership_of_etcd_to_itself(trio: World) -> None:
    await _drawn_back(trio)


async def test_a_switchover_moves_the_primary_and_loses_nothing(trio: World) -> None:
    trio.ask("iad", "INSERT INTO tasks VALUES (2)", user="viral_app")
    said = await ctl.switch_over(trio.environ("iad"), "lhr")
    assert (said["primary"], said["was"]) == ("lhr", "iad")
    await trio.until("lhr", "SELECT FROM tasks WHERE id = 2 AND NOT pg_is_in_recovery()")
    await trio.until_synchronous("lhr")


async def test_after_a_clean_stop_of_all_the_last_primary_leads_again_with_the_same_data(
    trio: World,
) -> None:
    identity = "SELECT system_identifier, (SELECT count(*) FROM tasks) FROM pg_control_system()"
    before = trio.ask("lhr", identity)
    assert trio.stop("iad", "lhr") == {"iad": 0, "lhr": 0}
    assert trio.stop("yyz") == {"yyz": 0}
    assert processes_in(trio.folder) == []
    for region, kind in (("iad", "database"), ("lhr", "database"), ("yyz", "witness")):
        trio.start(region, kind)
    await trio.until("lhr", "SELECT WHERE NOT pg_is_in_recovery()")
    assert trio.ask("lhr", identity) == before
    await trio.until_synchronous("lhr")


async def test_what_is_killed_inside_a_machine_is_started_again(trio: World) -> None:
    def engines() -> set[int]:
        marks = ("etcd --name=iad", "patroni_start")
        return {
            one.pid
            for one in processes_in(trio.folder / "iad")
            if any(mark in command_of(one) for mark in marks)
        }

    old = engines()
    assert len(old) == 2
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    await wait_until(
        lambda: len(engines() - old) == 2,
        timeout=timedelta(seconds=30),
        waiting_for="etcd and Patroni to be started again",
    )
    await trio.until_synchronous("lhr")


async def test_files_with_secrets_are_private_and_nothing_runs_as_root(trio: World) -> None:
    run = trio.folder / "iad" / "run"
    assert {stat.S_IMODE(path.stat().st_mode) for path in run.iterdir()} == {0o600}
    assert os.geteuid() != 0 or all(0 not in _uids(one) for one in processes_in(trio.folder))


def _uids(process: psutil.Process) -> tuple[int, ...]:
    with suppress(psutil.NoSuchProcess):  # it has just ended
        return tuple(process.uids())
    return ()


@pytest.mark.parametrize("side", ["outer", "inner"])
async def test_a_machine_that_is_killed_leaves_no_process_behind(trio: World, side: str) -> None:
    region = {"outer": "lhr", "inner": "iad"}[side]
    machine = trio.running.pop(region)
    victim = machine.pid
    if side == "inner":
        (victim,) = (child.pid for child in psutil.Process(machine.pid).children())
    assert any("postgres" in command_of(one) for one in processes_in(trio.folder / region))
    os.kill(victim, signal.SIGKILL)
    await wait_until(
        lambda: processes_in(trio.folder / region) == [],
        timeout=timedelta(seconds=30),
        waiting_for="all of the machine to be gone",
    )
    machine.wait(30)


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an ordinary user already")
async def test_an_ordinary_user_runs_a_single_region() -> None:
    # The right to read is for the Python of this checkout, which may lie under a private folder.
    keep = "+dac_read_search"
    user = ("setpriv", "--reuid=nobody", "--regid=65534", "--clear-groups")
    with world("iad", prefix=(*user, f"--inh-caps={keep}", f"--ambient-caps={keep}")) as here:
        (here.folder / "iad").mkdir()
        os.chown(here.folder / "iad", 65534, 65534)
        here.log("iad").touch()
        here.start("iad", "database")
        await here.until("iad", "SELECT WHERE NOT pg_is_in_recovery()", user="viral_app")
        assert here.stop("iad") == {"iad": 0}


async def test_a_member_that_lost_its_folder_is_refused_with_the_remedy() -> None:
    with world("iad", "lhr", "yyz") as here:
        for region in ("iad", "lhr", "yyz"):
            here.start(region, "witness")
        await _formed(here)
        here.stop("yyz")
        shutil.rmtree(here.folder / "yyz")
        assert here.start("yyz", "witness").wait(20) == 1
        assert "must not come back without what it voted" in here.said("yyz")


async def test_the_witness_leads_etcd_also_where_another_member_is_silent() -> None:
    with world("iad", "lhr", "yyz") as here:
        here.start("lhr", "database")
        here.start("yyz", "witness")
        await _formed(here)
        await _drawn_back(here)


async def _drawn_back(here: World) -> None:
    """Give the leadership of etcd away, and see that the witness takes it back."""

    async def etcd() -> tuple[object, int]:
        said = cast("dict[str, Any]", (await ctl.status(here.environ("lhr")))["etcd"])
        return said["leader"], max(one["term"] or 0 for one in said["members"])

    _, before = await etcd()

    async def led_by_witness() -> bool:
        leader, term = await etcd()
        return leader == "yyz" and term >= before + 2  # each move is a term: there, and back

    # The witness may draw it back before etcd has looked whether it moved, which then is an error.
    with suppress(DatabaseError):
        await ctl.move_etcd_leader(here.environ("yyz"), "lhr")
    await wait_until(
        led_by_witness, timeout=timedelta(seconds=45), waiting_for="the witness to lead etcd"
    )


async def _formed(here: World) -> None:
    gateway = EtcdGateway(EtcdCluster.from_environ(here.environ("yyz")).nearest_first("yyz"))

    async def led() -> bool:
        with suppress(UnreachableError):
            return (await gateway.status()).is_leader
        return False

    await wait_until(led, timeout=timedelta(seconds=20), waiting_for="the witness to lead etcd")


def test_a_faulty_environment_is_told_whole_before_anything_starts() -> None:
    done = subprocess.run(
        [*NODES, "database"],
        env={"FLY_REGION": "IAD!"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    for name in ("FLY_REGION", "FLY_PRIVATE_IP", "PRIMARY_REGION", "VIRAL_CLUSTER"):
        assert name in done.stderr
