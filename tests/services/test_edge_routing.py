"""The edge sends each request to the nearest healthy machine, and says who it is."""

from __future__ import annotations

import asyncio
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Self

import httpx
import psutil
import pytest
from tests.services.edge_world import CHECK, Answer, Edge, Machine, World, closed, until, world

from viral_engine.globe.edge import ALIVE_PATH, Check


@pytest.fixture
async def here() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def served(edge: Edge, times: int = 60) -> Counter[str]:
    """Count which machines answer; anything but 200 counts as its status."""
    answers = [await edge.client.get("/") for _ in range(times)]
    return Counter(
        a.json()["machine"] if a.status_code == 200 else str(a.status_code) for a in answers
    )


class Load:
    """Requests in a row, for as long as the block lasts."""

    def __init__(self, edge: Edge, method: str) -> None:
        self.answers: list[httpx.Response] = []
        self._edge = edge
        self._method = method
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await self._task

    async def _run(self) -> None:
        while not self._stop.is_set():
            self.answers.append(await self._edge.client.request(self._method, "/", content=b"x"))

    async def wait_for_more(self, count: int = 30) -> None:
        wanted = len(self.answers) + count

        async def enough() -> bool:
            return len(self.answers) >= wanted

        await until(enough, f"{count} more answers came")

    def statuses(self) -> set[int]:
        return {answer.status_code for answer in self.answers}


async def test_p01_an_app_is_told_who_asks_through_which_edge(here: World) -> None:
    edge = await here.edge("lhr", await here.machines(iad=1))
    told = (
        await edge.client.get(
            "/",
            headers={
                "fly-client-ip": "6.6.6.6",
                "fly-region": "xxx",
                "fly-forwarded-port": "1",
                "fly-request-id": "x",
                "x-forwarded-for": "9.9.9.9",
                "x-request-id": "mine",
            },
        )
    ).json()["headers"]
    assert told["fly-client-ip"] == "127.0.0.1"
    assert told["fly-region"] == "lhr"
    assert told["fly-forwarded-port"] == told["x-forwarded-port"] == "8080"
    assert told["x-forwarded-for"] == "9.9.9.9, 127.0.0.1"
    assert told["x-forwarded-proto"] == "http"
    assert told["via"] == "1.1 fly.io"
    assert told["x-request-id"] == "mine"
    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}-lhr", told["fly-request-id"])


async def test_p02_a_user_is_told_the_request_id_and_never_the_region(here: World) -> None:
    machines = await here.machines(lhr=1)
    machines[0].answer = lambda _seen: Answer(
        201, {"fly-region": "lhr", "x-edge-machine": "forged"}, b"made"
    )
    edge = await here.edge("lhr", machines)
    got = await edge.client.get("/")
    assert (got.status_code, got.text) == (201, "made")
    assert got.headers["via"] == "1.1 fly.io"
    assert got.headers["server"].startswith("Fly/")
    assert re.fullmatch(r"[0-9A-Z]{26}-lhr", got.headers["fly-request-id"])
    assert not {"fly-region", "x-edge-machine", "x-edge-region"} & got.headers.keys()
    ids = {(await edge.client.get("/")).headers["fly-request-id"] for _ in range(20)}
    assert len(ids) == 20


async def test_p27_flyio_debug_tells_the_edge_and_the_machine(here: World) -> None:
    edge = await here.edge("lhr", await here.machines(iad=1))
    got = await edge.client.get("/", headers={"flyio-debug": "doit"})
    assert got.headers["flyio-debug"] == '{"nr":"lhr","sr":"iad","sid":"iad-1"}'
    assert "flyio-debug" not in (await edge.client.get("/")).headers


async def test_p04_the_nearest_region_serves_everything_while_one_machine_of_it_is_healthy(
    here: World,
) -> None:
    machines = await here.machines(lhr=3, iad=2, nrt=1)
    edge = await here.edge("lhr", machines)
    assert set(await served(edge)) == {"lhr-1", "lhr-2", "lhr-3"}
    machines[0].healthy = machines[1].healthy = False
    await edge.wait_until_healthy(machines[2:])
    assert set(await served(edge)) == {"lhr-3"}
    machines[2].healthy = False
    await edge.wait_until_healthy(machines[3:])
    assert set(await served(edge)) == {"iad-1", "iad-2"}
    machines[1].healthy = True
    await edge.wait_until_healthy([machines[1], *machines[3:]])
    assert set(await served(edge)) == {"lhr-2"}


async def test_p07_all_unhealthy_is_said_and_is_over_when_one_is_healthy_again(
    here: World,
) -> None:
    machines = await here.machines(lhr=1, iad=1)
    edge = await here.edge("lhr", machines)
    for machine in machines:
        machine.healthy = False
    await edge.wait_until_healthy([])
    got = await edge.client.post("/", content=b"x")
    assert (got.status_code, got.text[:6], got.headers["retry-after"]) == (503, "[PR01]", "1")
    assert got.headers["fly-request-id"].endswith("-lhr")
    machines[1].healthy = True
    await edge.wait_until_healthy(machines[1:])
    assert set(await served(edge)) == {"iad-1"}


async def test_p07_a_redirecting_health_check_fails(here: World) -> None:
    machines = await here.machines(lhr=1)
    check = replace(CHECK, path="/moved")
    machines[0].answer = lambda _seen: Answer(301, {"location": "/health"})
    service = await here.edge("lhr", [], check=check)
    service.publish_backends(machines)

    async def asked() -> bool:
        return any(seen.target == "/moved" for seen in machines[0].seen)

    await until(asked, "the check was made")
    assert set(await served(service, 3)) == {"503"}


async def test_a_health_check_can_send_headers_and_ask_another_port(here: World) -> None:
    prober, machine = await here.machine("prober", "lhr"), await here.machine("lhr-1", "lhr")
    machine.healthy = False
    prober.answer = lambda seen: Answer(
        200 if seen.headers.get("x-forwarded-proto") == "https" else 301
    )
    twin = Machine("lhr-1", "lhr", prober.address, 8000)
    await here.listener(prober.address, 8100, _says("plain"))
    check = Check(0.1, 5.0, "/ready", 8000, (("x-forwarded-proto", "https"),))
    edge = await here.edge("lhr", [replace(twin, port=8100)], check=check)
    assert (await edge.client.get("/")).text == "plain"


def _says(
    text: str,
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode())
        await writer.drain()

    return handle


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_p08_a_machine_that_refuses_connections_costs_no_request(
    here: World, method: str
) -> None:
    machines = await here.machines(lhr=2, iad=1)
    edge = await here.edge("lhr", machines, check=replace(CHECK, interval_s=30))
    await here.kill(machines[0])
    answers = [await edge.client.request(method, "/", content=b"x" * 5000) for _ in range(12)]
    assert {a.json()["machine"] for a in answers} == {"lhr-2"}
    assert {a.json()["size"] for a in answers} == {5000}
    await here.kill(machines[1])
    answers = [await edge.client.request(method, "/", content=b"x" * 5000) for _ in range(4)]
    assert {a.json()["machine"] for a in answers} == {"iad-1"}


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("HEAD", 200), ("POST", 502)])
async def test_p08_only_a_repeatable_request_is_retried_once_a_machine_had_it(
    here: World, method: str, status: int
) -> None:
    had: list[bytes] = []

    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/health" in head:
            await _says("fine")(_fed(head), writer)
            return
        had.append(head)
        writer.transport.abort()

    address = here.addresses.take()
    await here.listener(address, 8000, dies)
    machines = [Machine("lhr-1", "lhr", address), await here.machine("iad-1", "iad")]
    edge = await here.edge("lhr", machines)
    got = await edge.client.request(method, "/")
    assert got.status_code == status
    assert len(had) == (2 if status == 200 else 1)
    if status == 502:
        assert got.text.startswith("[PU02]")
        assert "retry-after" not in got.headers


def _fed(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    return reader


async def test_p28_machines_come_and_go_without_a_failed_request(here: World) -> None:
    first = await here.machines(iad=2)
    edge = await here.edge("lhr", first)
    async with Load(edge, "POST") as load:
        await load.wait_for_more()
        near = await here.machines(lhr=2)
        edge.publish_backends([*first, *near])
        await edge.wait_until_healthy([*first, *near])
        await load.wait_for_more()
        assert load.answers[-1].json()["machine"].startswith("lhr")
        edge.publish_backends([first[0], near[1]])
        await edge.wait_until_healthy([first[0], near[1]])
        await here.kill(near[0])
        await load.wait_for_more()
        assert {a.json()["machine"] for a in load.answers[-20:]} == {"lhr-2"}
        edge.publish_backends(first)
        await edge.wait_until_healthy(first)
        await load.wait_for_more()
    assert load.statuses() == {200}


async def test_a_new_machine_gets_nothing_before_its_first_passing_check(here: World) -> None:
    old = await here.machines(lhr=1)
    edge = await here.edge("lhr", old)
    new = await here.machine("lhr-2", "lhr", healthy=False)
    async with Load(edge, "GET") as load:
        edge.publish_backends([*old, new])
        await asyncio.wait_for(new.checked.wait(), 20)
        await load.wait_for_more()
        assert not new.seen
        new.healthy = True
        await edge.wait_until_healthy([*old, new])
        await load.wait_for_more()
    assert new.seen
    assert load.statuses() == {200}


async def test_a_request_in_flight_ends_well_after_its_machine_was_cordoned(here: World) -> None:
    machines = await here.machines(lhr=1, iad=1)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slowly() -> Answer:
        entered.set()
        await leave.wait()
        return Answer(200, {}, b"late")

    machines[0].answer = lambda _seen: slowly()
    edge = await here.edge("lhr", machines)
    answer = asyncio.create_task(edge.client.post("/", content=b"x"))
    await asyncio.wait_for(entered.wait(), 20)
    edge.publish_backends(machines[1:])
    await edge.wait_until_healthy(machines[1:])
    assert set(await served(edge, 3)) == {"iad-1"}
    leave.set()
    assert (await answer).text == "late"


async def test_an_address_is_added_and_taken_away_while_the_edge_runs(here: World) -> None:
    edge = await here.edge("lhr", await here.machines(lhr=1))
    own, anycast = edge.address, here.addresses.take()

    async def answers(address: str) -> bool:
        try:
            return (await edge.client.get(f"http://{address}:8080/")).status_code == 200
        except httpx.ConnectError:
            return False

    edge.publish(replace(edge.view, addresses=(own, anycast)))
    await until(lambda: answers(anycast), "the anycast address answers")
    edge.publish(replace(edge.view, addresses=(own,)))

    async def refuses() -> bool:
        try:
            _, writer = await asyncio.open_connection(anycast, 8080)
        except OSError:
            return True
        await closed(writer)
        return False

    await until(refuses, "the anycast address refuses")
    assert await answers(own)


async def test_p22_an_event_stream_passes_unbuffered(here: World) -> None:
    machines, heard = await here.machines(lhr=1), asyncio.Semaphore(0)
    machines[0].pace = heard.acquire  # nothing more is sent before the last line was heard
    edge = await here.edge("lhr", machines)
    lines: list[str] = []
    async with asyncio.timeout(20), edge.client.stream("GET", "/events") as answer:
        async for line in answer.aiter_lines():
            if line:
                lines.append(line)
                heard.release()
    assert lines == ["data: 0", "data: 1", "data: 2"]


async def test_p22_silence_longer_than_the_idle_timeout_cuts_a_stream(here: World) -> None:
    machines = await here.machines(lhr=1)
    machines[0].answer = lambda _seen: _never()
    edge = await here.edge("lhr", machines, idle_timeout_s=1.5)
    got = await edge.client.get("/")
    assert got.status_code == 504
    got = await edge.client.get("/events")
    assert got.text.count("data:") == 3


async def _never() -> Answer:
    await asyncio.sleep(3)
    return Answer()


async def test_an_edge_that_answers_has_taken_less_than_a_second_of_a_cpu_and_stays_small(
    here: World,
) -> None:
    machines = await here.machines(lhr=3, iad=2)
    edge = await here.edge("lhr", machines)
    assert (await edge.client.get("/")).status_code == 200
    process = psutil.Process(edge.process.pid)
    assert sum(process.cpu_times()[:2]) < 1.0
    assert process.memory_info().rss < 90 * 2**20


async def test_an_edge_says_itself_that_it_lives(here: World) -> None:
    """Whoever leads users to an edge asks it alone: no machine sees it."""
    machines = await here.machines(lhr=1)
    edge = await here.edge("lhr", machines)
    answer = await edge.client.get(ALIVE_PATH)
    assert (answer.status_code, answer.text) == (200, "edge lhr\n")
    assert all(seen.target != ALIVE_PATH for seen in machines[0].seen)


async def test_a_connection_whose_user_went_elsewhere_without_a_word_is_looked_after(
    here: World,
) -> None:
    """Anycast leads users away in the middle: their edge would keep such a connection for good."""
    edge = await here.edge("lhr", await here.machines(lhr=1))
    reader, writer = await asyncio.open_connection(edge.address, edge.view.http[0].port)
    try:
        writer.write(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        port = writer.get_extra_info("sockname")[1]

        async def looked_after() -> bool:  # once its own answer is acknowledged
            return keepalive_timer(edge.address, port)

        await until(looked_after, "the kernel looks after the edge's end of it")
    finally:
        await closed(writer)


def keepalive_timer(address: str, peer_port: int) -> bool:
    """Whether the kernel looks after the server's end of a connection; see proc(5), /proc/net/tcp."""
    here = socket.inet_aton(address)[::-1].hex().upper()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, peer, timer = (line.split()[n] for n in (1, 2, 5))
        if local.startswith(here) and peer.endswith(f":{peer_port:04X}"):
            return timer.startswith("02:")
    return False
