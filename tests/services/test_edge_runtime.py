"""Real machines with the runtime behind a real edge: what a request is after it was handed on."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
import pytest_asyncio
import websockets
from tests.services.edge_world import until, world
from tests.services.runtime_world import MIB, Globe, WrongClock, made, pieces

from viral_engine.topology.model import Sticky
from viral_engine.web import ReplaySigner


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Globe]:
    async with world() as here:
        yield await made(here)


@pytest.fixture
def globe(shared: Globe) -> Globe:
    shared.set(
        primary="iad",
        lost=frozenset(),
        sticky=Sticky.OFF,
        secret="shared",
        clock=WrongClock(),
        full=False,
    )
    shared.set(answer=lambda _seen: None)
    return shared


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("chunked", [False, True])
async def test_r16_two_megabytes_are_refused_with_a_remedy_before_anything_was_done(
    globe: Globe, *, chunked: bool
) -> None:
    content = pieces(2 * MIB) if chunked else b"x" * 2 * MIB
    got = await globe.ask("POST", content=content)
    assert (got.status_code, got.headers["content-type"]) == (413, "application/problem+json")
    assert "fly-prefer-region: iad" in got.json()["detail"]
    assert (globe.was_seen(), globe.arrived()) == (0, {"lhr": 1})
    got = await globe.ask("POST", content=b"x" * 2 * MIB, headers={"fly-prefer-region": "iad"})
    assert (got.status_code, got.json()["size"]) == (200, 2 * MIB)


@pytest.mark.parametrize("chunked", [False, True])
async def test_r16_a_body_above_the_limit_of_an_app_is_refused_and_the_user_hears_of_it(
    globe: Globe, *, chunked: bool
) -> None:
    for _ in range(5):
        content = pieces(6 * MIB) if chunked else b"x" * 6 * MIB
        got = await globe.ask("POST", content=content, headers={"fly-prefer-region": "iad"})
        assert (got.status_code, got.headers["viral-region"]) == (413, "iad")
        assert globe.was_seen() <= 5 * chunked


async def test_r16_a_refused_body_that_comes_slowly_is_taken_whole_before_the_answer(
    globe: Globe,
) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        async for piece in pieces(6 * MIB):
            yield piece
            sent.append(piece)
            if len(sent) == 10:
                await asyncio.sleep(1.5)  # the sender's pace: longer than the edge waits to close

    sent: list[bytes] = []
    headers = {"fly-prefer-region": "iad", "content-length": str(6 * MIB)}
    got = await globe.ask("POST", content=slowly(), headers=headers)
    assert (got.status_code, len(sent)) == (413, 96)


@pytest.mark.parametrize("size", [1, 700_000, MIB])
async def test_r16_a_chunked_body_arrives_whole_where_it_was_handed(
    globe: Globe, size: int
) -> None:
    got = await globe.ask("POST", content=pieces(size))
    told = got.json()
    assert (told["machine"][:3], told["size"]) == ("iad", size)
    assert told["sha"] == hashlib.sha256(b"x" * size).hexdigest()
    assert got.headers["viral-route"] == "local; reason=primary-here; lapsed=primacy"


@pytest.mark.parametrize(
    ("path", "region"), [("/live", "lhr"), ("/strong", "lhr"), ("/edit", "iad")]
)
async def test_r16_a_socket_stays_near_unless_it_needs_the_primary(
    globe: Globe, path: str, region: str
) -> None:
    url = f"ws://{globe.edge.address}:8080{path}"
    async with websockets.connect(url, proxy=None) as socket:
        assert socket.response is not None
        assert socket.response.headers["viral-region"] == region
        await socket.send("hello")
        assert str(await socket.recv()).startswith(region)


@pytest.mark.parametrize(("path", "region"), [("/", "lhr"), ("/strong", "iad")])
async def test_r16_a_head_is_led_as_its_get_is(globe: Globe, path: str, region: str) -> None:
    for method in ("HEAD", "GET"):
        got = await globe.ask(method, path)
        assert (got.status_code, got.headers["viral-region"]) == (200, region)
        assert bool(got.content) is (method == "GET")
    assert {seen.method for machine in globe.of(region) for seen in machine.seen} == {"HEAD", "GET"}


async def test_r16_what_guards_against_forgery_and_repetition_comes_along(globe: Globe) -> None:
    sent = {
        "host": "app.example",
        "origin": "https://app.example",
        "cookie": "csrftoken=abc; sessionid=def",
        "x-csrf-token": "abc",
        "idempotency-key": "order-1",
        "content-type": "application/json",
    }
    got = await globe.ask("POST", "/pay?now=1", content=b"{}", headers=sent)
    told = got.json()
    assert (told["machine"][:3], told["target"]) == ("iad", "/pay?now=1")
    assert {name: told["headers"].get(name) for name in sent} == sent


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(hours=1), timedelta(hours=-1)])
@pytest.mark.parametrize(("method", "path"), [("POST", "/"), ("GET", "/strong")])
async def test_r17_two_regions_that_take_each_other_for_the_primary_stop_at_one_hop(
    globe: Globe, ahead: timedelta, method: str, path: str
) -> None:
    globe.set("iad", primary="lhr", clock=WrongClock(ahead))
    got = await globe.ask(method, path)
    # The second one asks the primary over the wire, whoever that is: its address knows.
    assert (got.status_code, got.headers["viral-route"]) == (
        200,
        "primary; reason=moved; lapsed=primacy",
    )
    assert got.headers["viral-region"] == "iad"
    assert (globe.was_seen(), globe.arrived()) == (1, {"lhr": 1, "iad": 1})


async def test_r17_without_a_shared_secret_the_proxy_ends_what_goes_round(globe: Globe) -> None:
    globe.set(secret=None)
    globe.set("iad", primary="lhr")
    got = await globe.ask("POST")
    assert (got.status_code, got.text[:6]) == (502, "[PA02]")
    assert (globe.was_seen(), sum(globe.arrived().values())) == (0, 11)


async def test_r14_a_made_up_replay_costs_nothing(globe: Globe) -> None:
    state = ReplaySigner("guessed").sign("lhr", "write")
    forged = {"fly-replay-src": f"instance=x;region=iad;t=1;state={state}"}
    got = await globe.ask("POST", headers=forged)
    assert (got.status_code, got.headers["viral-region"]) == (200, "iad")
    assert globe.arrived() == {"lhr": 1, "iad": 1}
    straight = f"http://{globe.machines['lhr-1'].address}:8000/"
    async with httpx.AsyncClient(trust_env=False) as client:
        write = await client.post(straight, headers=forged)
        read = await client.get(straight, headers=forged)
    assert (write.status_code, write.headers["fly-replay"].partition(";")[0]) == (409, "region=iad")
    assert read.status_code == 200
    assert "fly-replay-src" not in read.json()["headers"]


async def test_r14_a_session_comes_home_and_that_does_not_renew_its_home(globe: Globe) -> None:
    globe.set(sticky=Sticky.REGION)
    first = await globe.ask()
    assert first.headers["viral-home"] == "lhr"
    assert first.headers["set-cookie"].startswith("viral-home=lhr; Path=/; Max-Age=900; HttpOnly")
    assert first.json()["machine"].startswith("lhr")
    for sent in ({"cookie": "a=b; viral-home=iad"}, {"viral-home": "iad"}):
        got = await globe.ask(headers=sent)
        assert got.json()["machine"].startswith("iad")
        assert got.headers["viral-route"] == "local; reason=primary-here"
        assert not {"viral-home", "set-cookie"} & got.headers.keys()
        assert "viral-home" not in got.json()["headers"]


async def test_a_write_or_a_strong_read_goes_straight_to_the_primary_and_moves_no_home(
    globe: Globe,
) -> None:
    globe.set(sticky=Sticky.REGION)
    for method, path in (("POST", "/"), ("GET", "/strong")):
        globe.set()
        got = await globe.ask(method, path, headers={"viral-home": "lhr"})
        assert got.json()["machine"].startswith("iad")
        assert "viral-home" not in got.headers
        assert globe.arrived() == {"lhr": 1, "iad": 1}


async def test_a_session_keeps_to_its_machine_and_moves_on_when_that_is_full(globe: Globe) -> None:
    globe.set(sticky=Sticky.MACHINE)
    for home in ("iad.iad-2", "lhr.lhr-2", "lhr.lhr-1", "iad.iad-1"):
        for _ in range(4):
            got = await globe.ask(headers={"viral-home": home})
            assert got.json()["machine"] == home[4:]
            assert "viral-home" not in got.headers
    globe.set("iad-2", full=True)
    got = await globe.ask(headers={"viral-home": "iad.iad-2"})
    assert (got.json()["machine"], got.headers["viral-home"]) == ("iad-1", "iad.iad-1")
    globe.set("iad-1", full=True)
    got = await globe.ask(headers={"viral-home": "iad.iad-2"})
    assert got.headers["viral-home"].startswith("lhr.lhr-")


@pytest.mark.parametrize("sticky", [Sticky.REGION, Sticky.MACHINE])
@pytest.mark.parametrize(
    "home",
    [
        "nrt",
        "nrt.nrt-1",
        "xyz",
        "",
        "iad;app=other",
        'iad",app="x',
        "iad.",
        "iad.a/b",
        "IAD",
        "any",
    ],
)
async def test_a_home_that_is_none_of_ours_leads_nowhere(
    globe: Globe, sticky: Sticky, home: str
) -> None:
    globe.set(sticky=sticky)
    got = await globe.ask(headers={"viral-home": home})
    assert got.headers["viral-home"].startswith("lhr")
    assert globe.arrived() == {"lhr": 1}


@pytest.mark.parametrize("sticky", [Sticky.REGION, Sticky.MACHINE])
async def test_a_machine_that_is_gone_is_no_home(globe: Globe, sticky: Sticky) -> None:
    globe.set(sticky=sticky)
    got = await globe.ask(headers={"viral-home": "iad.gone"})
    assert got.json()["machine"].startswith("iad")
    got = await globe.ask(headers={"viral-home": "lhr.gone"})
    assert got.json()["machine"].startswith("lhr")
    assert sum(globe.arrived().values()) <= 4


async def test_a_read_with_a_body_goes_home_as_far_as_a_proxy_keeps_it(globe: Globe) -> None:
    globe.set(sticky=Sticky.REGION)
    for content, region in (
        (b"x" * MIB, "iad"),
        (b"x" * (MIB + 1), "lhr"),
        (pieces(100), "lhr"),
    ):
        got = await globe.ask(content=content, headers={"viral-home": "iad"})
        assert got.json()["machine"].startswith(region)


async def test_a_socket_is_not_sent_home(globe: Globe) -> None:
    globe.set(sticky=Sticky.REGION)
    url = f"ws://{globe.edge.address}:8080/live"
    sent = {"viral-home": "iad"}
    async with websockets.connect(url, proxy=None, additional_headers=sent) as socket:
        assert socket.response is not None
        assert socket.response.headers["viral-region"] == "lhr"


@pytest.mark.parametrize("secret", ["shared", None])
@pytest.mark.parametrize("sticky", [Sticky.REGION, Sticky.MACHINE])
async def test_no_home_sends_a_request_round(
    globe: Globe, sticky: Sticky, secret: str | None
) -> None:
    """Each hop is made by less than the one before: home, then the primary, then nothing."""
    globe.set(sticky=sticky, secret=secret)
    globe.set("iad", clock=WrongClock(timedelta(days=2)))
    for home in ("lhr", "iad", "lhr.lhr-1", "iad.iad-2", "lhr.gone", "iad.gone"):
        globe.set()
        got = await globe.ask(headers={"viral-home": home})
        assert got.status_code == 200
        assert sum(globe.arrived().values()) <= 2, home


async def test_a_session_moves_on_when_its_region_is_gone() -> None:
    async with world() as here:
        globe = await made(here, sticky=Sticky.MACHINE)
        for machine in globe.of("iad"):
            machine.healthy = False
        await globe.edge.wait_until_healthy(globe.of("lhr"))
        got = await globe.ask(headers={"viral-home": "iad.iad-1"})
        assert got.status_code == 200
        assert got.headers["viral-home"].startswith("lhr.lhr-")
        assert globe.arrived() == {"lhr": 2}


async def test_a_home_that_has_just_gone_costs_refusals_that_say_retry_until_the_edge_knows() -> (
    None
):
    async with world() as here:
        globe = await made(here, sticky=Sticky.MACHINE)
        for machine in globe.of("iad"):
            await here.kill(machine)

        async def is_served() -> bool:
            got = await globe.ask(headers={"viral-home": "iad.iad-1"})
            if got.status_code == 200:
                assert got.headers["viral-region"] == "lhr"
                return True
            assert (got.status_code, got.headers["retry-after"]) == (503, "1")
            return False

        await until(is_served, "the session moved on")


async def test_a_home_whose_database_does_not_answer_is_left_without_a_hop(globe: Globe) -> None:
    globe.set(sticky=Sticky.REGION)
    globe.set("lhr", lost=frozenset({"iad"}))
    got = await globe.ask(headers={"viral-home": "iad"})
    assert (got.headers["viral-home"], globe.arrived()) == ("lhr", {"lhr": 1})
