"""Every fault is seen by another way than that by which it was made, and undone however it ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import Machine
from viral_engine.operations.drills import witness
from viral_engine.operations.drills.cast import Cast
from viral_engine.operations.drills.crew import Crew
from viral_engine.operations.drills.deeds import doing
from viral_engine.operations.drills.story import Act
from viral_engine.operations.drills.verdict import Ruling
from viral_engine.operations.observe import Found
from viral_engine.operations.operator_lock import Operator

CAST = Cast(("iad", "lhr", "yyz"), "iad", ("lhr",), "yyz", "yyz")
PAIRS = (("iad", "lhr"), ("lhr", "iad"), ("iad", "yyz"), ("yyz", "iad"))


class Globe:
    """A globe that keeps faults and counts packets; ``deaf`` accepts faults and breaks nothing."""

    def __init__(self) -> None:
        self.deaf = False
        self.faults: dict[str, dict[str, Any]] = {}
        self.undone: list[str] = []
        self.counts = dict.fromkeys(PAIRS, 0)
        self.processes = [{"pid": 7, "state": "S", "began": 100}]

    def answer(self, request: httpx.Request) -> httpx.Response:
        path, body = request.url.path, json.loads(request.content or b"{}")
        if path.endswith("/exec"):
            return httpx.Response(
                200, json={"exit_code": 0, "stdout": self._inside(body["command"])}
            )
        if path.endswith("/packets"):
            self._count()
            return httpx.Response(200, json=[[*pair, 9, 0, n] for pair, n in self.counts.items()])
        if request.method == "DELETE":
            self.undone.append(self.faults.pop(path.rsplit("/", 1)[1])["kind"])
            return httpx.Response(200, json={"ok": True})
        name = f"f{len(self.faults) + len(self.undone)}"
        self.faults[name] = body
        return httpx.Response(201, json={"id": name})

    def _count(self) -> None:
        for fault in self.faults.values() if not self.deaf else ():
            a, b = fault["regions"]
            self.counts[a, b] += 5
            if fault["kind"] == "cut":
                self.counts[b, a] += 5

    def _inside(self, command: list[str]) -> str:
        *_, word, _machine = command
        before = json.dumps(self.processes)
        if word == "KILL" and not self.deaf:
            self.processes = [{"pid": 8, "state": "S", "began": 200}]
        if word in {"STOP", "CONT"} and not self.deaf:
            self.processes[0]["state"] = "T" if word == "STOP" else "S"
        return before


def machine(role: str, region: str) -> Found:
    raw = {
        "id": f"{role}-{region}", "name": f"{role}-{region}", "state": "started", "region": region,
        "instance_id": "1", "private_ip": "127.0.0.1", "created_at": "", "updated_at": "",
        "config": {"image": "x", "metadata": {"fly_process_group": role}},
    }  # fmt: skip
    return Found("demo", Machine.model_validate(raw))


@pytest.fixture
def globe(monkeypatch: pytest.MonkeyPatch) -> Globe:
    monkeypatch.setattr(witness, "SEEN_WITHIN", timedelta(seconds=0.2))
    monkeypatch.setattr(witness, "LOOK_EVERY", timedelta(seconds=0.01))
    return Globe()


@pytest.fixture
async def crew(globe: Globe) -> AsyncIterator[Crew]:
    machines = [machine("database", "iad"), machine("database", "lhr"), machine("witness", "yyz")]
    async with FlyClient("http://api", "secret") as client:
        transport = httpx.MockTransport(globe.answer)
        client.http = httpx.AsyncClient(base_url="http://api/v1", transport=transport)
        marks: list[str] = []

        def mark(what: str) -> int:
            marks.append(what)
            return len(marks)

        yield Crew(client, CAST, machines, mark, Operator("me", "a drill"), Silent())
        await client.http.aclose()


class Silent:
    def begun(self, step: str) -> None:
        raise AssertionError(step)

    def done(self, step: str, seconds: float) -> None:
        raise AssertionError(step)

    def seen(self, step: str, detail: str) -> None:
        raise AssertionError(step)


CUT = Act("cut", ("primary", "others"), lasts=1)
ONE_WAY = Act("one-way", ("primary", "replica"), lasts=1)
HANG = Act("hang", ("primary",), lasts=1, what="patroni")
KILL = Act("kill-process", ("etcd-leader",), what="etcd")


@pytest.mark.parametrize("act", [CUT, ONE_WAY, HANG, KILL], ids=lambda act: act.do)
async def test_a_fault_that_was_there_is_seen_and_undone(
    crew: Crew, globe: Globe, act: Act
) -> None:
    async with doing(crew, act):
        pass
    (seen,) = crew.seen
    assert seen.ruling is Ruling.KEPT, seen
    assert globe.faults == {}
    assert all(one["state"] == "S" for one in globe.processes)


@pytest.mark.parametrize("act", [CUT, ONE_WAY, HANG, KILL], ids=lambda act: act.do)
async def test_an_injector_that_does_nothing_is_found_out(
    crew: Crew, globe: Globe, act: Act
) -> None:
    globe.deaf = True
    async with doing(crew, act):
        pass
    (seen,) = crew.seen
    assert seen.ruling is Ruling.UNKNOWN, seen


async def test_a_cut_both_ways_is_no_cut_one_way(crew: Crew, globe: Globe) -> None:
    async with doing(crew, ONE_WAY):
        globe.counts["lhr", "iad"] += 3
    (seen,) = crew.seen
    assert seen.ruling is Ruling.UNKNOWN, seen


@pytest.mark.parametrize("act", [CUT, ONE_WAY, HANG], ids=lambda act: act.do)
async def test_a_fault_is_undone_when_the_drill_is_interrupted(
    crew: Crew, globe: Globe, act: Act
) -> None:
    with pytest.raises(KeyboardInterrupt):
        async with doing(crew, act):
            raise KeyboardInterrupt
    assert globe.faults == {}
    assert all(one["state"] == "S" for one in globe.processes)
    assert crew.seen == []
