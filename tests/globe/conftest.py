"""Whole globes, started by the command that people use and stopped whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from viral_engine.globe.network.choose import why_no_wan

UP_WITHIN = 150
ANSWER_WITHIN = 60


@dataclass(slots=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(slots=True)
class GlobeUnderTest:
    """One data folder and the commands on it; ``ready`` is what ``up --json`` ended with."""

    home: Path
    ready: dict[str, Any] = field(default_factory=dict)

    def viral(self, *args: str, timeout: float = ANSWER_WITHIN, **env: str) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "viral_engine.cli.main", *args],
            env=os.environ | {"VIRAL_HOME": str(self.home)} | env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def up(self, *args: str, **env: str) -> Result:
        result = self.viral("up", "--detach", "--json", *args, timeout=UP_WITHIN, **env)
        if result.code == 0:
            self.ready = result.json
        return result

    def status(self) -> dict[str, Any]:
        result = self.viral("status", "--json")
        assert result.code == 0, result.err or result.out
        facts: dict[str, Any] = result.json
        return facts

    def api(self, method: str, path: str, **more: Any) -> Any:
        """One call of the platform's API."""
        facts = json.loads((self.home / "run.json").read_text())
        url = f"{facts['addresses']['api']}/v1{path}"
        headers = {"authorization": f"Bearer {facts['token']}"}
        answer = httpx.request(method, url, headers=headers, trust_env=False, timeout=30, **more)
        return answer.raise_for_status().json()

    def told(self) -> dict[str, Any]:
        """What the globe itself says, without asking any machine."""
        said: dict[str, Any] = self.api("GET", "/globe/status")
        return said

    def inside(self, machine: dict[str, Any], *command: str) -> Any:
        """Run a command inside a machine: exit_code, stdout, stderr."""
        path = f"/apps/{machine['app']}/machines/{machine['id']}/exec"
        return self.api("POST", path, json={"command": command, "timeout": 20})

    def edge(self, region: str) -> httpx.Client:
        url = self.ready["addresses"]["edges"][region]
        return httpx.Client(base_url=url, trust_env=False, timeout=20)

    @property
    def is_wan(self) -> bool:
        return bool(self.ready["network"] == "wan")

    def curl(self, region: str, path: str, *args: str, to: str = "anycast") -> httpx.Response:
        """Ask as a user of a region, by the real network of that region; it must be answered."""
        answer = self.try_curl(region, path, *args, to=to)
        assert isinstance(answer, httpx.Response), answer
        return answer

    def try_curl(
        self, region: str, path: str, *args: str, to: str = "anycast"
    ) -> httpx.Response | str:
        """Ask as a user of a region; return why there was no answer where there was none."""
        addresses = self.ready["addresses"]
        url = addresses["anycast"] if to == "anycast" else addresses["edges"][to]
        asked = self.viral("exec", region, "--", "curl", "-s", "-i", "--max-time", "20", *args,
                           url + path)  # fmt: skip
        if asked.code:
            return f"curl ended with {asked.code}: {asked.err}"
        head, _, body = asked.out.partition("\n\n")
        first, *lines = head.splitlines()
        headers = dict(line.split(": ", 1) for line in lines)
        return httpx.Response(int(first.split()[1]), headers=headers, text=body)

    def processes(self) -> list[str]:
        """Everything on this machine that names the data folder."""
        listed = subprocess.run(
            ["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True
        )
        return [line for line in listed.stdout.splitlines() if f"{self.home}/" in line]


@contextlib.contextmanager
def globe_in(home: Path) -> Iterator[GlobeUnderTest]:
    globe = GlobeUnderTest(home)
    try:
        yield globe
    finally:
        try:
            globe.viral("down", timeout=120)
        finally:
            with contextlib.suppress(OSError, ValueError, KeyError):
                os.kill(json.loads((home / "run.json").read_text())["pid"], 9)


def require_wan() -> None:
    """Skip with the reason where there is no wan, or fail where it was demanded."""
    reason = why_no_wan()
    if reason is None:
        return
    if os.environ.get("VIRAL_REQUIRE_WAN"):
        pytest.fail(f"wan was required and cannot be had here: {reason}")
    pytest.skip(f"wan cannot be had here: {reason}")


@pytest.fixture(scope="session", params=["flat", pytest.param("wan", marks=pytest.mark.wan)])
def globe(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GlobeUnderTest]:
    """The default deployment: iad, lhr and a witness, in either network."""
    mode = request.param
    if mode == "wan":
        require_wan()
    with globe_in(tmp_path_factory.mktemp(f"{mode}-globe") / "home") as running:
        result = running.up("--network", mode)
        assert result.code == 0, result.out + result.err
        yield running


@pytest.fixture(scope="session")
def wan_globe(globe: GlobeUnderTest) -> GlobeUnderTest:
    if not globe.is_wan:
        pytest.skip("this fault needs packets between regions; it runs in wan")
    return globe
