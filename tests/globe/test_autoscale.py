"""A load from one region: its machines follow, up and down, and no other region's do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.globe.conftest import GlobeUnderTest, globe_in

from viral_engine.clock import NotYet, wait_until

pytestmark = pytest.mark.long

SOON = timedelta(seconds=60)

APP = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    await asyncio.sleep(0.25)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})
"""
DEPLOYMENT = """
[regions.iad]
min = 1
max = 3
[regions.lhr]  # where the users are
min = 1
max = 2
[service]
app = "slow:app"
soft_limit = 4
hard_limit = 50
[service.check]
interval = "500ms"
timeout = "500ms"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's folder: an app that is slow, and its deployment."""
    made = tmp_path_factory.mktemp("slow")
    (made / "slow.py").write_text(APP)
    (made / "viral.toml").write_text(DEPLOYMENT)
    return made


@pytest.fixture(scope="module")
def running(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GlobeUnderTest]:
    with globe_in(tmp_path_factory.mktemp("autoscale") / "home") as globe:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            result = globe.up("--network", "flat")
        assert result.code == 0, result.out + result.err
        yield globe


@contextmanager
def autoscaling(globe: GlobeUnderTest, log: Path) -> Iterator[None]:
    """Run the autoscaler, and see that Ctrl-C ends it well."""
    command = [sys.executable, "-m", "viral_engine.cli.main", "autoscale", "--json", "--target", "0.5",
               "--interval", "1s", "--cooldown", "2s", "--low-for", "4s"]  # fmt: skip
    env = os.environ | {"VIRAL_HOME": str(globe.home)}
    with log.open("w") as out, subprocess.Popen(command, env=env, stdout=out) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0


class Users:
    """So many users of a region, who each ask again and again; what failed is kept."""

    def __init__(self, edge: str) -> None:
        self.edge = edge
        self.answered = 0
        self.failed: list[str] = []

    @asynccontextmanager
    async def asking(self, many: int) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._ask()) for _ in range(many)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self) -> None:
        async with httpx.AsyncClient(base_url=self.edge, trust_env=False, timeout=20) as user:
            while True:
                try:
                    answer = await user.get("/")
                except httpx.HTTPError as error:
                    self.failed.append(repr(error))
                    continue
                self.answered += 1
                if answer.status_code != 200:
                    self.failed.append(f"{answer.status_code} {answer.text}")


def numbers(globe: GlobeUnderTest) -> dict[str, int]:
    """How many app machines each region has that are started and can be reached."""
    machines: list[dict[str, Any]] = globe.api("GET", "/apps/viral-engine/machines")
    serving = [m["region"] for m in machines if m["state"] == "started" and not m.get("cordoned")]
    return {region: serving.count(region) for region in ("iad", "lhr")}


async def until(globe: GlobeUnderTest, wanted: dict[str, int], why: str) -> None:
    async def seen() -> bool | NotYet:
        found = await asyncio.to_thread(numbers, globe)
        return found == wanted or NotYet(str(found))

    await wait_until(seen, timeout=SOON, waiting_for=why, interval=timedelta(milliseconds=250))


@pytest.mark.timeout(300)
async def test_machines_follow_the_load_of_their_region_up_and_down_and_no_request_fails(
    running: GlobeUnderTest, tmp_path: Path
) -> None:
    log = tmp_path / "autoscale.jsonl"
    users = Users(running.ready["addresses"]["edges"]["lhr"])
    with autoscaling(running, log):
        async with users.asking(1):
            async with users.asking(5):
                await until(running, {"iad": 1, "lhr": 2}, "a second machine in London")
            await until(running, {"iad": 1, "lhr": 1}, "the second machine to go again")
        (extra,) = [m for m in running.status()["machines"] if m["name"] == "app-lhr-1"]
        assert extra["health"] == "passing"
    assert users.failed == []
    assert users.answered > 20
    events = [json.loads(line) for line in log.read_text().splitlines()]
    decided = [(e["region"], e["running"], e["target"]) for e in events if e["event"] == "decided"]
    assert decided == [("lhr", 1, 2), ("lhr", 2, 1)]
    assert [e["changes"] for e in events if e["event"] == "scaled"] == [1, 3]
    assert {e["region"] for e in events if e["event"] == "load"} == {"iad", "lhr"}


def test_what_was_scaled_by_hand_stands_in_the_file_with_its_comments_and_a_deploy_keeps_it(
    running: GlobeUnderTest, folder: Path
) -> None:
    shown = running.viral("scale", "lhr=2", "--dry-run", "--json").json
    assert [change["what"] for change in shown["changes"]] == ["app-lhr-2"]
    assert shown["viral_toml"] == "[regions.lhr]\nmin = 2\nmax = 2\n"
    done = running.viral("scale", "lhr=2", "--write", "--yes", "--json", timeout=120)
    assert done.code == 0, done.out + done.err
    assert json.loads(done.out.splitlines()[-1]) == {"event": "now", "changed": 1}
    assert (folder / "viral.toml").read_text() == DEPLOYMENT.replace(
        "[regions.lhr]  # where the users are\nmin = 1",
        "[regions.lhr]  # where the users are\nmin = 2",
    )
    assert numbers(running) == {"iad": 1, "lhr": 2}
    assert running.viral("plan", "--check").code == 0
    rows = running.viral("scale", "--json").json
    assert [(r["region"], r["min"], r["started"]) for r in rows] == [("iad", 1, 1), ("lhr", 2, 2)]


@pytest.mark.timeout(300)
async def test_a_region_that_may_have_none_is_left_empty_and_filled_again_for_its_users(
    running: GlobeUnderTest, tmp_path: Path
) -> None:
    done = running.viral("scale", "lhr=0..1", "--write", "--yes", timeout=120)
    assert done.code == 0, done.out + done.err
    log = tmp_path / "autoscale.jsonl"
    users = Users(running.ready["addresses"]["edges"]["lhr"])
    with autoscaling(running, log):
        await until(running, {"iad": 1, "lhr": 0}, "nothing to be left in London")
        async with users.asking(2):
            await until(running, {"iad": 1, "lhr": 1}, "a machine in London again")
    assert users.failed == []
    assert users.answered > 0
    events = [json.loads(line) for line in log.read_text().splitlines()]
    decided = [e for e in events if e["event"] == "decided"]
    assert [(e["region"], e["running"], e["target"]) for e in decided] == [
        ("lhr", 1, 0),
        ("lhr", 0, 1),
    ]
    assert "were served elsewhere" in decided[1]["reason"]
