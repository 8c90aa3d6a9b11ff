"""Somebody else's app, several globes at once, and a start that is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from tests.globe.conftest import globe_in, require_wan
from tests.services.nodes_world import command_of

from viral_engine.clock import wait_until

EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi_sqlalchemy"
SOON = timedelta(seconds=30)


@pytest.mark.timeout(300)
async def test_somebody_elses_app_runs_beside_another_globe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An app that reads DATABASE_URL and knows nothing of us is served, and globes do not meet."""
    with globe_in(tmp_path / "theirs") as theirs, globe_in(tmp_path / "ours") as ours:
        with monkeypatch.context() as patch:
            patch.chdir(EXAMPLE)
            result = theirs.up("--app", "app:app", "--regions", "iad,lhr", "--network", "flat")
            assert result.code == 0, result.out + result.err
        result = ours.up("--regions", "lhr", "--primary", "lhr", "--network", "flat")
        assert result.code == 0, result.out + result.err

        with theirs.edge("lhr") as user:
            written = user.post("/notes", json={"text": "hello from London"})
            assert written.status_code == 201, written.text
            assert any("hello from London" in str(note) for note in user.get("/notes").json())
        with ours.edge("lhr") as user:
            assert user.post("/api/tasks", json={"title": "mine"}).headers["viral-region"] == "lhr"
            assert user.get("/notes").status_code == 404

        assert theirs.viral("down", timeout=120).code == 0
        assert theirs.processes() == []
        assert ours.status()["database"]["primary"] == "lhr"


async def test_an_interrupted_start_leaves_nothing_behind(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with globe_in(home) as globe:
        command = [sys.executable, "-m", "viral_engine.cli.main", "up", "--json"]
        env = os.environ | {"VIRAL_HOME": str(home)}
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as starting:
            assert starting.stdout is not None
            seen = next(line for line in starting.stdout if "Wait for a primary" in line)
            assert "begun" in seen
            starting.send_signal(signal.SIGINT)
            rest = starting.stdout.read()
            code = await wait_until(lambda: _ended(starting),
                                    timeout=SOON, waiting_for="the command to end")  # fmt: skip
        assert code == "1"
        assert "stopped before it was ready" in rest
        assert globe.processes() == []


def _ended(process: subprocess.Popen[str]) -> str | None:
    code = process.poll()
    return None if code is None else str(code)


@pytest.mark.wan
async def test_a_globe_whose_network_dies_says_so_and_ends(tmp_path: Path) -> None:
    """A globe without one of its parts must not look alive."""
    require_wan()
    home = tmp_path / "home"
    with globe_in(home) as globe:
        command = [sys.executable, "-m", "viral_engine.cli.main", "up", "--json"]
        env = os.environ | {"VIRAL_HOME": str(home)}
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            next(line for line in running.stdout if "Wait for a primary" in line)
            children = psutil.Process(running.pid).children()
            (hub,) = [c for c in children if "viral_engine.globe.network.hub" in command_of(c)]
            hub.kill()
            rest = running.stdout.read()
            code = await wait_until(
                lambda: _ended(running), timeout=SOON, waiting_for="the command to end"
            )
        assert code == "1"
        assert "hub ended" in rest
        assert globe.processes() == []
