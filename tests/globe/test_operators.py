"""What operators type: the primary moved and moved back, promoted by force, and etcd rebuilt."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.globe.conftest import GlobeUnderTest, Result, globe_in

from viral_engine.clock import NotYet, wait_until

SOON = timedelta(seconds=60)
LONG = 170


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GlobeUnderTest]:
    with globe_in(tmp_path_factory.mktemp("operators") / "home") as running:
        result = running.up("--network", "flat")
        assert result.code == 0, result.out + result.err
        yield running


async def protected(globe: GlobeUnderTest) -> None:
    def seen() -> bool | NotYet:
        facts = globe.status()
        return facts["protection"] == "two-regions" or NotYet(str(facts["protection_reasons"]))

    await wait_until(seen, timeout=SOON, waiting_for="two regions to hold the data")


def on_fly(globe: GlobeUnderTest, *args: str, timeout: float = 60) -> Result:
    """A command for Fly.io, led to the globe's own API."""
    facts = json.loads((globe.home / "run.json").read_text())
    return globe.viral(
        *args, "--on", "fly", "--json", timeout=timeout,
        FLY_FLAPS_BASE_URL=facts["addresses"]["api"], FLY_API_TOKEN=facts["token"],
    )  # fmt: skip


def now(globe: GlobeUnderTest, *args: str) -> dict[str, Any]:
    """The last event of an operation that must succeed."""
    done = globe.viral(*args, "--yes", "--json", timeout=LONG)
    assert done.code == 0, done.out + done.err
    last: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    assert last["event"] == "now"
    return last


def refused(globe: GlobeUnderTest, *args: str) -> str:
    done = globe.viral(*args, "--json")
    assert done.code != 0, done.out
    return str(json.loads(done.out.splitlines()[-1])["error"]["message"])


def write(globe: GlobeUnderTest, region: str) -> int:
    with globe.edge(region) as user:
        return user.post("/api/tasks", json={"title": "written"}).status_code


@pytest.mark.timeout(400)
async def test_a_failover_and_a_failback_move_the_primary_and_say_what_is_true(
    ours: GlobeUnderTest,
) -> None:
    await protected(ours)
    assert ours.viral("failover", "--to", "lhr", "--dry-run", "--json").json["to"] == "lhr"
    assert ours.status()["database"]["primary"] == "iad"
    moved = now(ours, "failover", "--to", "lhr")
    assert (moved["primary"], moved["was"], moved["synchronous"]) == ("lhr", "iad", ["iad"])
    assert write(ours, "iad") == 201
    assert "lhr is the primary already" in refused(ours, "failover", "--to", "lhr", "--yes")
    # Back by the same wire, as it is done on Fly.io.
    back = on_fly(ours, "failback", "--yes", timeout=LONG)
    assert json.loads(back.out.splitlines()[-1])["primary"] == "iad", back.out + back.err


async def test_on_fly_io_only_the_apps_of_the_deployment_are_looked_at(
    ours: GlobeUnderTest, tmp_path: Path
) -> None:
    def without_health(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{key: one[key] for key in one if key != "health"} for one in listed]  # it moves

    listed = ours.viral("machines", "--json").json
    assert without_health(on_fly(ours, "machines").json) == without_health(listed)
    facts = on_fly(ours, "status").json
    assert facts["database"]["primary"] == ours.status()["database"]["primary"]
    (tmp_path / "viral.toml").write_text('app = "neighbour"\n[regions.iad]\n[regions.lhr]\n')
    kept = json.loads(on_fly(ours, "promote", "lhr", "--yes").out.splitlines()[-1])["error"]
    assert "viral failover --to lhr" in kept["suggestion"]
    assert kept["suggestion"].endswith("Each of these with --on fly.")
    other = on_fly(ours, "machines", "--file", str(tmp_path / "viral.toml"))
    assert (other.code, "There is no app neighbour" in other.out) == (1, True)


@pytest.mark.timeout(400)
async def test_the_second_of_two_operators_is_refused_and_a_killed_one_lets_go(
    ours: GlobeUnderTest,
) -> None:
    await protected(ours)
    command = [sys.executable, "-m", "viral_engine.cli.main", "failover", "--to", "lhr",
               "--yes", "--json", "--home", str(ours.home)]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        next(line for line in first.stdout if '"begun"' in line)
        assert "viral failover --to lhr" in refused(ours, "failback", "--yes")
        first.kill()

    def typed_again() -> bool | NotYet:
        done = ours.viral("failover", "--to", "lhr", "--yes", "--json", timeout=LONG)
        said = json.loads(done.out.splitlines()[-1])
        finished = done.code == 0 or "already" in said["error"]["message"]
        return finished or NotYet(str(said))

    await wait_until(typed_again, timeout=SOON, waiting_for="the same command to finish it")
    await protected(ours)
    assert now(ours, "failback")["primary"] == "iad"


@pytest.mark.timeout(400)
async def test_a_primary_that_lives_is_promoted_over_only_by_force_and_rejoins(
    ours: GlobeUnderTest,
) -> None:
    await protected(ours)
    assert "iad is alive" in refused(ours, "promote", "lhr", "--yes")
    told = now(ours, "promote", "lhr", "--force")
    assert (told["primary"], told["protection"]) == ("lhr", "degraded")
    assert told["next"] == ["viral start iad"]
    assert ours.status()["protection"] == "degraded"
    assert write(ours, "lhr") == 201
    assert ours.viral("start", "iad", timeout=LONG).code == 0
    await protected(ours)
    assert now(ours, "failback")["primary"] == "iad"


@pytest.mark.timeout(500)
async def test_etcd_is_rebuilt_from_the_survivor_and_the_others_join_again(
    ours: GlobeUnderTest,
) -> None:
    await protected(ours)
    for name in ("witness-yyz", "database-iad"):
        stopped = ours.viral("stop", name, "--yes", "--force", timeout=LONG)
        assert stopped.code == 0, stopped.err
    assert "no majority" in refused(ours, "promote", "lhr", "--yes")
    told = now(ours, "promote", "lhr", "--force")
    assert told["primary"] == "lhr"
    assert write(ours, "lhr") == 201
    for region in ("iad", "yyz"):
        assert ours.viral("start", region, timeout=LONG).code == 0
    await protected(ours)
    assert now(ours, "failback")["primary"] == "iad"


async def test_a_region_is_drained_stopped_and_started_without_a_failed_request(
    ours: GlobeUnderTest,
) -> None:
    await protected(ours)
    assert "iad holds the primary" in refused(ours, "stop", "iad", "--yes")
    assert ours.viral("stop", "lhr", "--yes", timeout=LONG).code == 0
    assert write(ours, "lhr") == 201
    cordoned = [m["cordoned"] for m in ours.status()["machines"] if m["region"] == "lhr"]
    assert cordoned == [True] * 5
    assert ours.viral("start", "lhr", timeout=LONG).code == 0
    await protected(ours)


@contextlib.contextmanager
def writing(globe: GlobeUnderTest, region: str) -> Iterator[list[int]]:
    """A user of a region who writes all the time; the statuses of the answers."""
    statuses: list[int] = []
    end = threading.Event()

    def go_on() -> None:
        while not end.wait(0.05):
            try:
                statuses.append(write(globe, region))
            except httpx.HTTPError:
                statuses.append(0)

    user = threading.Thread(target=go_on)
    user.start()
    try:
        yield statuses
    finally:
        end.set()
        user.join()


@pytest.mark.timeout(500)
async def test_a_deploy_changes_every_machine_while_users_write_and_then_has_nothing_to_do(
    ours: GlobeUnderTest, tmp_path: Path
) -> None:
    await protected(ours)
    assert ours.viral("plan", "--json").json == {"changes": [], "notes": []}
    file = tmp_path / "viral.toml"
    file.write_text('[database.parameters]\nwork_mem = "8MB"\n[service.env]\nLEVEL = "debug"\n')
    planned = ours.viral("plan", "--file", str(file), "--json", "--check")
    assert (planned.code, len(planned.json["changes"])) == (1, 8)
    assert planned.out == ours.viral("plan", "--file", str(file), "--json").out
    secrets = json.loads((ours.home / "secrets.json").read_text()).values()
    assert not [secret for secret in secrets if secret in planned.out]
    with writing(ours, "lhr") as statuses:
        assert now(ours, "deploy", "--file", str(file))["changed"] == 8
    assert len(statuses) > 100
    assert set(statuses) == {201}
    assert ours.viral("plan", "--file", str(file), "--json", "--check").json["changes"] == []
    assert ours.status()["database"]["primary"] == "iad"
