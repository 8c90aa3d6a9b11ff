"""``viral drill`` on a whole globe: what it finds, what it refuses, and that Ctrl-C leaves nothing broken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from tests.globe.conftest import GlobeUnderTest

from viral_engine.clock import wait_until
from viral_engine.fly.client import FlyClient
from viral_engine.operations.drills.checks import LEDGER, ONE_PRIMARY
from viral_engine.operations.drills.stories import Stage

HOME = "iad"
ENDS_WITHIN = 200
SOUND = {"every fault was there", "etcd kept its leader"}
SAFE = {
    ONE_PRIMARY,
    LEDGER,
    "the primary is where it should be",
    "workload strong",
    "workload sessions",
}


@pytest.fixture
async def home_again(wan_globe: GlobeUnderTest) -> AsyncIterator[None]:
    """The primary is at home, and all is well, when the test is over."""
    yield
    facts = json.loads((wan_globe.home / "run.json").read_text())
    async with FlyClient(facts["addresses"]["api"], facts["token"]) as client:
        stage = Stage(client, facts["addresses"]["edges"], print)
        if await stage.well() != HOME:
            await stage.switch_over(HOME)
            assert await stage.well() == HOME


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("home_again")
def test_a_killed_postgresql_is_judged_by_what_users_saw_and_told_as_json(
    wan_globe: GlobeUnderTest,
) -> None:
    done = wan_globe.viral(
        "drill", "postgres-kill", "--duration", "20s", "--seed", "4", "--json", timeout=ENDS_WITHIN
    )
    told = done.json
    rulings = {one["name"]: one["ruling"] for one in told["checks"]}
    assert told["verdict"] != "broken", told["why"]
    assert done.code == (0 if told["verdict"] == "kept" else 1)
    # A machine that is short of CPU makes the rest unknown, and must not hide what was seen.
    assert {rulings.get(name) for name in SAFE} == {"kept"}, told
    assert {rulings.get(name) for name in SOUND} <= {"kept", "unknown"}, told

    assert (told["drill"], told["seed"], told["network"], told["primary"]) == (
        "postgres-kill", 4, "wan", HOME)  # fmt: skip
    (seen,) = told["witnesses"]
    assert (seen["fault"], seen["ruling"]) == ("postgres in iad is killed", "kept")
    assert told["load"]["scheduled"] >= 300
    assert told["rpo_writes"] == 0
    assert all(one["operations"] > 0 for one in told["workloads"])
    roles = {
        one["region"]: {span["role"] for span in one["spans"]} for one in told["timeline"]["roles"]
    }
    assert "primary" in roles["lhr"]
    kinds = {(one["region"], one["kind"]) for one in told["requests"]}
    assert len(kinds) == 6
    killed = next(one["at_s"] for one in told["marks"] if "killed" in one["what"])
    assert 5 <= killed <= 10


def test_a_drill_is_refused_while_something_is_broken_already(wan_globe: GlobeUnderTest) -> None:
    wan_globe.viral("fault", "delay", "1.1")
    try:
        done = wan_globe.viral("drill", "noop", "--json")
    finally:
        wan_globe.viral("fault", "clear")
    assert done.code == 1
    assert done.json["error"]["kind"] == "RefusedError"
    assert "delay" in done.json["error"]["message"]
    assert "viral fault clear" in done.json["error"]["suggestion"]


@pytest.mark.timeout(200)
@pytest.mark.parametrize("word", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_and_sigterm_in_the_middle_undo_every_fault_and_say_so(
    wan_globe: GlobeUnderTest, word: signal.Signals
) -> None:
    drill = subprocess.Popen(
        [sys.executable, "-m", "viral_engine.cli.main", "drill", "wan-slow", "--json"],
        env=os.environ | {"VIRAL_HOME": str(wan_globe.home)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        await wait_until(
            lambda: bool(wan_globe.told()["faults"]), timeout=timedelta(seconds=60),
            waiting_for="the drill to slow the network down", interval=timedelta(milliseconds=200),
        )  # fmt: skip
        drill.send_signal(word)
        out, err = drill.communicate(timeout=60)
    finally:
        drill.kill()
    assert drill.returncode == 1, err
    assert "every fault is undone" in json.loads(out)["error"]["message"]
    assert wan_globe.told()["faults"] == []
    left = [line for line in wan_globe.processes() if "drill" in line or "k6" in line]
    assert left == []
