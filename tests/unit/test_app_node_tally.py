from __future__ import annotations

import asyncio
from datetime import timedelta

import httpx
import pytest

from viral_engine.clock import wait_until
from viral_engine.nodes.admission import Message, Receive, Scope, Send
from viral_engine.nodes.load import LOAD_PATH
from viral_engine.nodes.tally import TALLY_PATH, Tally
from viral_engine.observe.requests import BOUNDS_MS, RequestCounts, RequestFigures

SOON = timedelta(seconds=5)


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the status that the path names; ``/raise`` answers nothing."""
    if scope["path"] == "/raise":
        raise RuntimeError(scope["path"])
    status = 200 if scope["path"] in ("/health", LOAD_PATH) else int(scope["path"][1:])
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def ask(tally: Tally, *paths: str) -> None:
    transport = httpx.ASGITransport(app=tally, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as user:
        for path in paths:
            await user.get(path)


async def test_answers_of_500_and_above_count_as_failed_and_health_does_not_count() -> None:
    tally = Tally(answers, health_path="/health", run="a")
    await ask(tally, "/health", LOAD_PATH, "/200", "/409", "/500", "/503", "/raise")
    seen = tally.counts.figures()
    assert (seen.run, seen.answered, seen.failed, seen.inside) == ("a", 5, 3, 0)
    assert seen.error_rate == pytest.approx(0.6)
    assert sum(seen.classes) == 5


async def test_a_request_is_inside_until_its_answer_has_ended() -> None:
    go = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await go.wait()

    tally = Tally(slow, health_path="/health", run="a")

    async def sent(message: Message) -> None:
        began.set()

    async def received() -> Message:
        return {"type": "http.request"}

    began = asyncio.Event()
    served = asyncio.create_task(tally({"type": "http", "path": "/"}, received, sent))
    await began.wait()
    assert (tally.counts.inside, tally.counts.answered) == (1, 1)
    go.set()
    await served
    assert tally.counts.inside == 0


async def test_who_waits_for_failures_is_seen_and_answered_as_soon_as_they_are_there() -> None:
    tally = Tally(answers, health_path="/health", run="a")
    transport = httpx.ASGITransport(app=tally, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as user:
        waiting = asyncio.create_task(user.get(TALLY_PATH, params={"failed": 2, "within": 30}))
        await wait_until(lambda: tally.watchers == 1, timeout=SOON, waiting_for="the question")
        assert (await user.get(TALLY_PATH)).json()["watchers"] == 1
        await ask(tally, "/500", "/200")
        assert not waiting.done()
        await ask(tally, "/500")
        async with asyncio.timeout(SOON.total_seconds()):
            told = (await waiting).json()
        assert (told["answered"], told["failed"], told["run"]) == (3, 2, "a")
        soon = await user.get(TALLY_PATH, params={"failed": 9, "within": 0.1})
        assert (soon.json()["failed"], tally.watchers) == (2, 0)
        assert (await user.get(TALLY_PATH, params={"failed": "many"})).status_code == 400


async def test_what_came_by_an_edge_finds_the_app_and_what_is_sent_on_does_not_count() -> None:
    paths = []

    async def moves_on(scope: Scope, receive: Receive, send: Send) -> None:
        paths.append(scope["path"])
        headers = [(b"fly-replay", b"elsewhere=true")]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    tally = Tally(moves_on, health_path="/health", run="a")
    transport = httpx.ASGITransport(app=tally)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as user:
        asked = await user.get(TALLY_PATH, headers={"fly-client-ip": "10.0.0.1"})
    assert (asked.status_code, paths) == (503, [TALLY_PATH])
    assert tally.counts.answered == 0


def test_a_quantile_is_right_within_a_fifth() -> None:
    counts = RequestCounts("a")
    for milliseconds in range(1, 1001):
        counts.answer(200, milliseconds / 1000)
    for share in (0.5, 0.95, 0.99):
        told = counts.figures().quantile_ms(share)
        assert told is not None
        assert 1000 * share <= told <= 1000 * share * 1.2
    assert RequestFigures().quantile_ms(0.95) is None
    counts.answer(200, 1000.0)
    assert counts.figures().quantile_ms(1.0) == BOUNDS_MS[-1]


def test_figures_are_added_and_read_back_as_they_were_written() -> None:
    one, two = RequestCounts("a", inside=1), RequestCounts("b")
    one.answer(200, 0.01)
    two.answer(500, 0.02)
    both = one.figures() + two.figures()
    assert (both.inside, both.answered, both.failed) == (1, 2, 1)
    assert RequestFigures.from_facts(both.facts()) == both
    with pytest.raises(ValueError, match="classes"):
        RequestFigures.from_facts(both.facts() | {"classes": [1]})
