"""A machine's fly-replay answer sends the same request elsewhere, and the user sees only the end."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import websockets
from tests.services.edge_world import Answer, Edge, Machine, Seen, replay, world

MIB = 1024 * 1024


class Globe:
    """Two machines in lhr and two in iad, behind the edge of lhr."""

    def __init__(self, edge: Edge, machines: list[Machine]) -> None:
        self.edge = edge
        self.client = edge.client
        self.machines = {machine.id: machine for machine in machines}

    def answers(self, prefix: str, header: str | None, status: int = 409) -> None:
        for name, machine in self.machines.items():
            if name.startswith(prefix):
                machine.answer = lambda _seen: replay(header, status) if header else None

    def visits(self) -> Counter[str]:
        return Counter({name: len(machine.seen) for name, machine in self.machines.items()})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made() -> AsyncIterator[Globe]:
    async with world() as here:
        machines = await here.machines(lhr=2, iad=2)
        yield Globe(await here.edge("lhr", machines), machines)


@pytest.fixture
def globe(made: Globe) -> Globe:
    for machine in made.machines.values():
        machine.answer = lambda _seen: None
        machine.reads_body = True
        machine.seen.clear()
    return made


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_p09_replay_keeps_method_body_query_and_headers(globe: Globe) -> None:
    globe.answers("lhr", "region=iad;state=signed.value=")
    body = b"x" * 100_000
    sent = {"host": "my.app", "viral-session": "1.key.token", "cookie": "viral-session=1.key.other"}
    got = await globe.client.post("/a%20b/c?q=1&r=%2F", content=body, headers=sent)
    told = got.json()
    assert (got.status_code, told["machine"][:3]) == (200, "iad")
    assert (told["method"], told["target"]) == ("POST", "/a%20b/c?q=1&r=%2F")
    assert (told["size"], told["sha"]) == (len(body), hashlib.sha256(body).hexdigest())
    assert {name: told["headers"].get(name) for name in sent} == sent
    source = told["headers"]["fly-replay-src"]
    assert re.fullmatch(r"instance=lhr-\d;region=lhr;t=\d{16};state=signed.value=", source)
    assert "fly-replay" not in got.headers
    assert not [h for h in told["headers"] if h.startswith("x-envoy")]
    assert not [h for h in got.headers if h.startswith(("x-envoy", "x-edge"))]


@pytest.mark.parametrize("status", [200, 204, 307, 409, 500, 503])
async def test_p09_an_answer_of_any_status_can_ask_for_a_replay(globe: Globe, status: int) -> None:
    globe.answers("lhr", "region=iad", status)
    got = await globe.client.get("/")
    assert (got.status_code, got.json()["machine"][:3]) == (200, "iad")


async def test_p09_an_ordinary_redirect_reaches_the_user_untouched(globe: Globe) -> None:
    target = "http://other.example/there?x=1"
    for machine in globe.machines.values():
        machine.answer = lambda _seen: Answer(307, {"location": target}, b"moved")
    got = await globe.client.post("/here", content=b"body")
    assert (got.status_code, got.headers["location"], got.text) == (307, target, "moved")


async def test_p09_a_user_can_forge_no_header_of_the_edge(globe: Globe) -> None:
    forged = {
        "fly-replay-src": "instance=x;region=iad;t=1;state=forged",
        "fly-replay-failed": "instance=x",
        "fly-request-id": "forged",
        "x-edge-refused": "lhr-1",
        "x-edge-wish": "region=iad",
        "x-edge-replay": "region=iad",
        "x-envoy-original-url": "http://x/",
        "x-envoy-retry-on": "5xx",
    }
    told = (await globe.client.get("/", headers=forged | {"host": "replay.edge"})).json()
    assert told["machine"].startswith("lhr")
    assert not forged.keys() & told["headers"].keys() - {"fly-request-id"}
    assert "forged" not in str(told)


@pytest.mark.parametrize(
    ("header", "machine"),
    [
        ("region=iad", "iad"),
        ('region="nrt,iad"', "iad"),
        (' state=a;  region = "nrt, iad" ', "iad"),
        ('elsewhere=true;region="iad"', "iad"),
        ("instance=iad-2", "iad-2"),
        ("prefer_instance=iad-1", "iad-1"),
        ("prefer_instance=gone;region=iad", "iad"),
        ('region="nrt,any";elsewhere=true', ""),
        ("region=iad;timeout=10s;fallback=prefer_self", "iad"),
    ],
)
async def test_p10_a_valid_header_finds_its_machine(
    globe: Globe, header: str, machine: str
) -> None:
    globe.machines["lhr-1"].answer = lambda _seen: replay(header)
    got = await globe.client.get("/", headers={"fly-prefer-instance-id": "lhr-1"})
    assert got.status_code == 200
    assert got.json()["machine"].startswith(machine)
    assert globe.visits()["lhr-1"] == 1


@pytest.mark.parametrize(
    ("header", "machine"),
    [
        ('region="iad,lhr"', "iad"),
        ('region="nrt,iad,lhr";state=x', "iad"),
        ('region="iad,lhr";prefer_instance=iad-2', "iad-2"),
        ('region="iad,lhr";prefer_instance=lhr-2', "lhr-2"),
        ('region="iad,lhr";prefer_instance=gone', "iad"),
    ],
)
async def test_p10_regions_are_tried_in_their_order_after_the_machine_that_is_preferred(
    globe: Globe, header: str, machine: str
) -> None:
    globe.answers("lhr-1", header)
    got = await globe.client.get("/", headers={"fly-prefer-instance-id": "lhr-1"})
    assert got.json()["machine"].startswith(machine)


async def test_p10_the_last_region_of_a_list_can_be_where_the_request_came_from(
    globe: Globe,
) -> None:
    def asks_once(seen: Seen) -> Answer | None:
        return None if "fly-replay-src" in seen.headers else replay('region="nrt,lhr";state=s')

    globe.answers("iad", "elsewhere=true", 503)
    for name in ("lhr-1", "lhr-2"):
        globe.machines[name].answer = asks_once
    told = (await globe.client.post("/", content=b"x")).json()
    assert told["machine"].startswith("lhr")
    assert told["headers"]["fly-replay-src"].endswith(";state=s")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, None),
        ({"fly-prefer-instance-id": "iad-1"}, None),
        ({"fly-prefer-instance-id": "gone"}, "gone"),
        ({"fly-preferred-instance-unavailable": "forged"}, None),
    ],
)
async def test_p16_a_machine_is_told_that_it_is_not_the_one_preferred(
    globe: Globe, asked: dict[str, str], told: str | None
) -> None:
    got = await globe.client.get("/", headers=asked)
    headers = got.json()["headers"]
    assert headers.get("fly-preferred-instance-unavailable") == told
    assert not [name for name in headers if name.startswith("x-edge")]


async def test_p16_a_replay_that_prefers_a_full_machine_says_so_to_the_next(globe: Globe) -> None:
    globe.answers("lhr", 'region="iad,lhr";prefer_instance=iad-1')
    assert (
        "fly-preferred-instance-unavailable"
        not in ((await globe.client.get("/")).json()["headers"])
    )
    globe.answers("iad-1", "elsewhere=true", 503)
    told = (await globe.client.get("/")).json()
    assert told["machine"] == "iad-2"
    assert told["headers"]["fly-preferred-instance-unavailable"] == "iad-1"


@pytest.mark.parametrize(
    "header",
    [
        "region=iad,lhr",
        "region",
        "region=",
        "region=IAD",
        "region=iad;region=lhr",
        'region="iad',
        "regoin=iad",
        "elsewhere=maybe",
        "elsewhere=false",
        "state=only",
        "instance=a/b",
        "region=iad; ;",
        "region=iad state=x",
    ],
)
async def test_p10_an_invalid_header_is_said_to_be(globe: Globe, header: str) -> None:
    globe.answers("lhr", header)
    got = await globe.client.get("/")
    assert (got.status_code, got.text[:6]) == (502, "[PA03]")


async def test_p10_a_replay_to_another_app_is_refused(globe: Globe) -> None:
    globe.answers("lhr", "app=other;region=iad")
    got = await globe.client.get("/")
    assert (got.status_code, got.text[:6]) == (502, "[PA04]")


@pytest.mark.parametrize("chunked", [False, True])
async def test_p12_a_body_of_one_mib_is_replayed_and_no_larger_one(
    globe: Globe, *, chunked: bool
) -> None:
    globe.answers("lhr", "region=iad")

    async def pieces(size: int) -> AsyncIterator[bytes]:
        for start in range(0, size, 65536):
            yield b"x" * min(65536, size - start)

    for size, status in ((MIB, 200), (MIB + 1, 502), (3 * MIB, 502)):
        content = pieces(size) if chunked else b"x" * size
        got = await globe.client.post("/", content=content)
        assert got.status_code == status, size
        assert got.json()["size"] == size if status == 200 else got.text.startswith("[PA01]")


async def test_p12_a_large_body_that_is_not_replayed_passes(globe: Globe) -> None:
    got = await globe.client.post("/", content=b"x" * 5 * MIB)
    assert (got.status_code, got.json()["size"]) == (200, 5 * MIB)


async def test_p12_a_body_of_known_length_is_replayed_though_the_app_never_read_it(
    globe: Globe,
) -> None:
    globe.answers("lhr", "region=iad")
    for machine in globe.machines.values():
        machine.reads_body = machine.region == "iad"

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 1000
            await asyncio.sleep(0.05)  # the pace of a slow user

    got = await globe.client.post("/", content=slowly(), headers={"content-length": "3000"})
    assert (got.status_code, got.json()["size"]) == (200, 3000)


async def test_p13_ten_replays_are_made_and_the_eleventh_is_refused(globe: Globe) -> None:
    hops: list[str] = []

    def bounce(seen: Seen) -> Answer | None:
        hops.append(seen.headers.get("fly-replay-src", ""))
        return replay("region=iad") if len(hops) <= limit else None

    for machine in globe.machines.values():
        machine.answer = bounce
    limit = 10
    assert (await globe.client.post("/", content=b"x")).status_code == 200
    assert len(hops) == 11
    hops.clear()
    limit = 100
    got = await globe.client.post("/", content=b"x")
    assert (got.status_code, got.text[:6], len(hops)) == (502, "[PA02]", 11)


async def test_p14_elsewhere_never_returns_to_a_machine_that_refused(globe: Globe) -> None:
    globe.answers("lhr", "elsewhere=true", 503)
    globe.answers("iad-1", "elsewhere=true", 503)
    for _ in range(10):
        globe.machines["lhr-1"].seen.clear()
        got = await globe.client.post("/", content=b"kept")
        assert (got.json()["machine"], got.json()["size"]) == ("iad-2", 4)
    assert globe.visits()["lhr-2"] == globe.visits()["iad-2"] == 10


async def test_p04_a_full_machine_overflows_within_its_region_first(globe: Globe) -> None:
    globe.answers("lhr-1", "elsewhere=true", 503)
    told = [(await globe.client.get("/")).json()["machine"] for _ in range(10)]
    assert set(told) == {"lhr-2"}


async def test_p05_when_every_machine_is_full_the_user_is_told_when_to_retry(
    globe: Globe,
) -> None:
    globe.answers("", "elsewhere=true", 503)
    got = await globe.client.post("/", content=b"x")
    assert (got.status_code, got.text[:6], got.headers["retry-after"]) == (503, "[PR01]", "1")
    assert set(globe.visits().values()) == {1}


async def test_p05_an_overflow_stays_where_a_replay_had_sent_it_and_keeps_its_state(
    globe: Globe,
) -> None:
    globe.answers("lhr", "region=iad;state=signed")
    globe.answers("iad-1", "elsewhere=true", 503)
    for _ in range(4):
        told = (await globe.client.post("/", content=b"x")).json()
        assert told["machine"] == "iad-2"
        assert told["headers"]["fly-replay-src"].endswith(";state=signed")
    globe.answers("iad-2", "elsewhere=true", 503)
    got = await globe.client.post("/", content=b"x")
    assert (got.status_code, got.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("header", ["region=nrt", "instance=gone", "region=xyz"])
async def test_p15_a_replay_to_where_nothing_is_healthy_fails_clearly(
    globe: Globe, header: str
) -> None:
    globe.answers("lhr", header)
    got = await globe.client.post("/", content=b"x")
    assert (got.status_code, got.text[:6], got.headers["retry-after"]) == (503, "[PR01]", "1")


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ({"fly-prefer-region": "iad"}, "iad"),
        ({"fly-prefer-region": "nrt, iad"}, "iad"),
        ({"fly-prefer-region": "nrt"}, "lhr"),
        ({"fly-force-region": "iad"}, "iad"),
        ({"fly-force-region": "nrt"}, None),
        ({"fly-prefer-instance-id": "iad-2"}, "iad-2"),
        ({"fly-prefer-instance-id": "gone"}, "lhr"),
        ({"fly-force-instance-id": "iad-1"}, "iad-1"),
        ({"fly-force-instance-id": "gone"}, None),
    ],
)
async def test_p20_a_user_prefers_with_fallback_and_forces_without(
    globe: Globe, asked: dict[str, str], served: str | None
) -> None:
    got = await globe.client.get("/", headers=asked)
    if served is None:
        assert (got.status_code, got.text[:6]) == (503, "[PR01]")
    else:
        assert got.json()["machine"].startswith(served)


async def test_p20_a_forced_machine_that_is_full_is_not_replaced(globe: Globe) -> None:
    globe.answers("iad-1", "elsewhere=true", 503)
    got = await globe.client.get("/", headers={"fly-force-instance-id": "iad-1"})
    assert (got.status_code, got.headers["retry-after"]) == (503, "1")
    assert globe.visits()["iad-1"] == 1


async def test_p21_an_upgrade_that_was_not_accepted_upgrades_at_the_next_region(
    globe: Globe,
) -> None:
    globe.answers("lhr", "region=iad")
    async with websockets.connect(f"ws://{globe.edge.address}:8080/ws", proxy=None) as socket:
        await socket.send("hello")
        assert str(await socket.recv()).startswith("iad")


async def test_p21_an_upgrade_that_nobody_accepts_fails_clearly(globe: Globe) -> None:
    globe.answers("", "elsewhere=true", 503)
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with websockets.connect(f"ws://{globe.edge.address}:8080/ws", proxy=None):
            pass
    assert refused.value.response.status_code == 503
    assert "fly-replay" not in refused.value.response.headers
