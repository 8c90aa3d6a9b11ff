"""What runs is told as it is, and stopped in the order that keeps data quiet."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from viral_engine.errors import DeadlineError
from viral_engine.fly.client import FlyClient
from viral_engine.operations.observe import database_view, machine_rows
from viral_engine.operations.progress import Progress
from viral_engine.operations.take_down import take_down


def machine(name: str, role: str, *, state: str = "started", check: str = "") -> dict[str, Any]:
    checks = [{"name": "servicecheck-00", "status": check, "updated_at": "t"}] if check else []
    return {"id": name, "name": name, "state": state, "region": name[-3:], "instance_id": "1",
            "private_ip": "a", "created_at": "t", "updated_at": "t", "checks": checks,
            "config": {"image": "x", "metadata": {"fly_process_group": role}}}  # fmt: skip


class Platform:
    """A platform of one app whose machines say what the test lets them say."""

    def __init__(self) -> None:
        self.machines: list[dict[str, Any]] = []
        self.said: dict[str, dict[str, Any]] = {}
        self.done: list[str] = []
        self.stuck = ""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        parts = request.url.path.split("/")
        match parts[-1]:
            case "apps":
                return httpx.Response(200, json={"apps": [{"id": "shop", "name": "shop"}]})
            case "machines":
                return httpx.Response(200, json=self.machines)
            case "exec" if parts[-2] in self.said:
                return httpx.Response(200, json=self.said[parts[-2]])
            case "exec":
                return httpx.Response(412, json={"error": "machine is not running"})
            case "stop":
                self.done.append(parts[-2])
                return httpx.Response(200, json={"ok": True})
            case _:
                status = 408 if parts[-2] == self.stuck else 200
                return httpx.Response(status, json={"error": "late"})


class Silent:
    def begun(self, step: str) -> None: ...
    def done(self, step: str, seconds: float) -> None: ...
    def seen(self, step: str, detail: str) -> None: ...


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
async def client(platform: Platform) -> AsyncIterator[FlyClient]:
    made = FlyClient("http://platform", "t")
    await made.http.aclose()
    made.http = httpx.AsyncClient(
        transport=httpx.MockTransport(platform), base_url="http://platform/v1"
    )
    async with made:
        yield made


def says(code: int = 0, out: str = "", err: str = "", **facts: object) -> dict[str, Any]:
    return {"exit_code": code, "stdout": out or json.dumps(facts), "stderr": err}


async def test_health_is_told_of_what_runs_only(platform: Platform, client: FlyClient) -> None:
    platform.machines = [
        machine("a-iad", "app", check="passing"),
        machine("b-iad", "app", check="critical"),
        machine("c-iad", "app", state="stopped"),
    ]
    rows = await machine_rows(client)
    assert [row["health"] for row in rows] == ["passing", "critical", "stopped"]


async def test_a_database_that_does_not_answer_is_listed_with_its_error(
    platform: Platform, client: FlyClient
) -> None:
    platform.machines = [machine(f"db-{code}", "database") for code in ("iad", "lhr", "nrt", "fra")]
    etcd = {"leader": "lhr"}
    platform.said = {
        "db-iad": says(role="primary", lag_seconds=0.0, etcd=etcd, differences=["b", "a"]),
        "db-lhr": says(code=1, err="no etcd\n"),
        "db-nrt": says(out="Warning: not JSON"),
    }
    view = await database_view(client)
    assert view["primary"] == "iad"
    assert view["etcd_leader"] == "lhr"
    assert view["settings_not_in_force"] == ["a", "b"]
    errors = {row["region"]: row["error"] for row in view["replicas"]}
    assert errors["lhr"] == "no etcd"
    assert "not JSON" in errors["nrt"]
    assert errors["fra"] == "machine is not running"


async def test_with_nobody_to_ask_there_is_no_primary(client: FlyClient) -> None:
    view = await database_view(client)
    assert (view["primary"], view["nodes"], view["etcd_leader"]) == (None, [], None)


async def test_apps_stop_first_and_the_primary_after_its_replicas(
    platform: Platform, client: FlyClient
) -> None:
    platform.machines = [
        machine("witness-yyz", "witness"),
        machine("cache-iad", "cache"),
        machine("db-iad", "database", check="passing"),
        machine("db-lhr", "database", check="critical"),
        machine("app-iad", "app"),
        machine("worker-iad", "worker"),
        machine("gone-iad", "app", state="stopped"),
    ]
    silent: Progress = Silent()
    await take_down(client, silent)
    stages = [set(platform.done[:2]), platform.done[2], platform.done[3], set(platform.done[4:])]
    assert stages == [
        {"app-iad", "worker-iad"}, "db-lhr", "db-iad", {"witness-yyz", "cache-iad"}
    ]  # fmt: skip


async def test_a_machine_that_does_not_stop_is_told(platform: Platform, client: FlyClient) -> None:
    platform.machines = [machine("app-iad", "app")]
    platform.stuck = "app-iad"
    with pytest.raises(DeadlineError):
        await take_down(client, Silent())
