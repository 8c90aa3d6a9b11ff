"""``viral rollout`` on a whole globe, under users of both regions: a good version, and a bad one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.globe.conftest import GlobeUnderTest, globe_in
from tests.services.rollout_world import SMALL_APP, Users

from viral_engine.clock import wait_until

pytestmark = pytest.mark.long

RATE = 30.0
"""Requests a second of each region's users."""

AT_LEAST = timedelta(seconds=40)
"""How long users come, however quickly a rollout ends: what it costs is counted over this time."""

DEPLOYMENT = """
[regions.iad]
min = 2
[regions.lhr]
min = 2
[service]
app = "small_app:app"
kill_timeout = "5s"
[service.check]
path = "/up"
interval = "500ms"
timeout = "500ms"
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GlobeUnderTest]:
    folder: Path = tmp_path_factory.mktemp("small")
    (folder / "small_app.py").write_text(SMALL_APP.replace("/api/health", "/up"))
    (folder / "viral.toml").write_text(DEPLOYMENT)
    with globe_in(tmp_path_factory.mktemp("rollout") / "home") as globe:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            result = globe.up("--network", "flat")
        assert result.code == 0, result.out + result.err
        yield globe


async def rolled_out(
    globe: GlobeUnderTest, version: str, *options: str, at_least: timedelta = timedelta(0)
) -> tuple[int, dict[str, Any], Users]:
    """Roll a version out while users come; the exit code, the last event, and what users saw."""
    users = Users(globe.ready["addresses"]["edges"], RATE)
    coming = asyncio.create_task(users.come())
    try:
        done = await asyncio.to_thread(
            globe.viral, "rollout", "--env", f"VERSION={version}", "--yes", "--json", *options,
            timeout=150,
        )  # fmt: skip
        enough = RATE * at_least.total_seconds()
        await wait_until(
            lambda: min(len(users.of("iad")), len(users.of("lhr"))) >= enough,
            timeout=at_least + timedelta(seconds=20), waiting_for="enough users",
        )  # fmt: skip
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
    return done.code, json.loads(done.out.splitlines()[-1]), users


@pytest.mark.timeout(200)
async def test_a_version_that_answers_errors_halts_in_its_first_wave_and_goes_back(
    running: GlobeUnderTest,
) -> None:
    code, last, users = await rolled_out(running, "bad", at_least=AT_LEAST)
    assert code == 1
    assert "lhr was rolled back" in last["error"]["message"]
    assert "Not touched: iad" in last["error"]["message"]
    assert users.failed("iad") == []
    failed, seen = len(users.failed("lhr")), len(users.of("lhr"))
    assert 0 < failed < 0.01 * seen, f"{failed} of {seen}"
    plan = running.viral("plan", "--json").json
    assert plan["changes"] == []


@pytest.mark.timeout(200)
async def test_a_good_version_is_everywhere_and_no_request_has_failed(
    running: GlobeUnderTest,
) -> None:
    code, last, users = await rolled_out(running, "2", "--bake", "3s")
    assert code == 0, last
    assert [wave["verdict"] for wave in last["waves"]] == ["go", "go"]
    assert [one for one in users.answers if one.status != 200] == []
    for region in ("iad", "lhr"):
        with running.edge(region) as user:
            assert user.get("/").text == "2"
    assert running.viral("rollout", "--back", "--yes").code == 1
