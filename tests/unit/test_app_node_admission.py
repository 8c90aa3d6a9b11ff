from __future__ import annotations

import asyncio

import httpx

from viral_engine.nodes.admission import Admission, Message, Receive, Scope, Send
from viral_engine.nodes.load import LOAD_PATH, Load


class Gate:
    """An app whose answers wait until they are let go."""

    def __init__(self) -> None:
        self.entered = asyncio.Semaphore(0)
        self.go = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/api/health":
            self.entered.release()
            await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def _user(app: Admission) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://app")


async def test_above_the_limit_a_request_is_sent_elsewhere_and_health_is_not() -> None:
    gate = Gate()
    app = Admission(gate, hard_limit=2, region="lhr", health_path="/api/health")
    async with _user(app) as user, asyncio.TaskGroup() as group:
        inside = [group.create_task(user.get("/")) for _ in range(2)]
        for _ in inside:
            await gate.entered.acquire()
        refused = await user.post("/", content=b"body")
        on_purpose = await user.get("/", headers={"fly-replay-src": "region=iad;state=1.lhr.7.mac"})
        health = await user.get("/api/health")
        gate.go.set()
    assert (refused.status_code, refused.headers["fly-replay"]) == (503, "elsewhere=true")
    assert refused.headers["retry-after"] == "1"
    assert on_purpose.headers["fly-replay"] == "region=lhr;elsewhere=true;state=1.lhr.7.mac"
    assert health.status_code == 200
    assert [task.result().status_code for task in inside] == [200, 200]
    assert app.load.inside == 0


async def test_a_socket_counts_for_its_life_and_is_denied_with_the_same_answer() -> None:
    gate = Gate()
    app = Admission(gate, hard_limit=1, region="lhr", health_path="/api/health")
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    scope: Scope = {
        "type": "websocket",
        "path": "/live",
        "headers": [],
        "extensions": {"websocket.http.response": {}},
    }
    async with asyncio.TaskGroup() as group:
        group.create_task(app({**scope}, receive, send))
        await gate.entered.acquire()
        await app({**scope}, receive, send)
        assert (sent[0]["type"], sent[0]["status"]) == ("websocket.http.response.start", 503)
        gate.go.set()
    assert app.load.inside == 0


class Told:
    """A clock that is told the time."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def test_the_load_is_summed_over_time_whole_and_by_the_edge_that_a_request_came_in_by() -> None:
    clock = Told()
    load = Load(clock)
    first = load.enter([(b"host", b"app"), (b"fly-region", b"lhr")])
    clock.at += 2
    second = load.enter([(b"fly-region", b"../x")])
    clock.at += 1
    load.leave(first)
    clock.at += 4
    assert load.shown() == {
        "inside": 1, "turned_away": 0, "up_seconds": 7.0, "busy_seconds": 8.0,
        "entered_seconds": {"lhr": 3.0},
    }  # fmt: skip
    load.leave(second)
    clock.at += 60
    assert load.shown()["busy_seconds"] == 8.0


async def test_the_load_is_told_from_inside_and_also_when_the_machine_is_full() -> None:
    gate = Gate()
    app = Admission(gate, hard_limit=1, region="lhr", health_path="/api/health")
    async with _user(app) as user, asyncio.TaskGroup() as group:
        group.create_task(user.get("/", headers={"fly-region": "iad"}))
        await gate.entered.acquire()
        assert (await user.get("/")).status_code == 503
        told = (await user.get(LOAD_PATH)).json()
        by_an_edge = await user.get(LOAD_PATH, headers={"fly-client-ip": "192.0.2.1"})
        gate.go.set()
    assert (told["inside"], told["turned_away"], list(told["entered_seconds"])) == (1, 1, ["iad"])
    assert 0 < told["busy_seconds"] <= told["up_seconds"]
    assert by_an_edge.status_code == 503
