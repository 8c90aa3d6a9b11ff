"""A polite client: its pace, what it repeats, and what a refusal tells people to do."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from viral_engine.errors import (
    ConflictError,
    LeaseHeldError,
    LostAnswerError,
    NoCapacityError,
    PlatformError,
)
from viral_engine.fly.client import FlyClient
from viral_engine.fly.pace import Pace, Retries
from viral_engine.fly.refusals import refusal_of


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.time = 100.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


async def test_three_changes_go_at_once_and_then_one_a_second() -> None:
    clock = Clock()
    pace = Pace(clock.now, clock.sleep)
    began = []
    for _ in range(6):
        await pace.turn("POST", "/apps/shop/machines")
        began.append(clock.time - 100)
    assert began == [0, 0, 0, 1, 2, 3]


@given(st.lists(st.floats(0, 3), min_size=1, max_size=40))
async def test_no_window_of_time_has_more_calls_than_its_tokens(pauses: list[float]) -> None:
    clock = Clock()
    pace = Pace(clock.now, clock.sleep)
    began = []
    for pause in pauses:
        clock.time += pause
        await pace.turn("POST", "/x")
        began.append(clock.time)
    for first in range(len(began)):
        for last in range(first, len(began)):
            assert last - first + 1 <= 3 + (began[last] - began[first]) + 1e-6


async def test_other_actions_and_other_machines_have_buckets_of_their_own() -> None:
    clock = Clock()
    pace = Pace(clock.now, clock.sleep)
    for path in ("/a/start", "/a/stop", "/b/start"):
        for _ in range(3):
            await pace.turn("POST", path)
    for _ in range(10):
        await pace.turn("GET", "/a")
    assert clock.slept == []


def client(clock: Clock, *answers: httpx.Response | type[httpx.HTTPError]) -> FlyClient:
    """A client of a platform that gives these answers in turn, the last one for ever."""
    left = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        one = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(one, httpx.Response):
            return one
        raise one("broken", request=request)  # type: ignore[call-arg]  # each takes its request

    made = FlyClient("http://platform", "secret", retries=Retries(sleep=clock.sleep))
    made.http = httpx.AsyncClient(
        transport=httpx.MockTransport(answer), base_url=made.http.base_url
    )
    return made


OK = httpx.Response(200, json={"id": "a", "name": "a"})


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_what_was_put_off_is_asked_again_when_the_platform_wishes(method: str) -> None:
    clock = Clock()
    late = httpx.Response(429, headers={"retry-after": "7"})
    async with client(clock, late, late, OK) as asking:
        assert await asking.request(method, "/apps/a") == {"id": "a", "name": "a"}
    assert clock.slept == [7, 7]


async def test_a_platform_that_always_puts_off_is_told_as_such() -> None:
    clock = Clock()
    async with client(clock, httpx.Response(429)) as asking:
        with pytest.raises(PlatformError) as raised:
            await asking.request("POST", "/apps")
    assert (raised.value.status, len(clock.slept)) == (429, 4)
    assert "Wait a minute" in raised.value.suggestion


@pytest.mark.parametrize(
    "fault", [httpx.Response(503), httpx.ReadError, httpx.RemoteProtocolError, httpx.ConnectError]
)
async def test_a_read_that_failed_is_repeated_and_a_change_never(
    fault: httpx.Response | type[httpx.HTTPError],
) -> None:
    clock = Clock()
    async with client(clock, fault, OK) as asking:
        await asking.get_app("a")
    assert len(clock.slept) == 1
    async with client(clock, fault, OK) as asking:
        with pytest.raises(PlatformError) as raised:
            await asking.create_app("a")
    assert len(clock.slept) == 1
    assert isinstance(raised.value, LostAnswerError) == (not isinstance(fault, httpx.Response))


async def test_a_read_that_took_too_long_is_not_made_to_take_longer() -> None:
    clock = Clock()
    async with client(clock, httpx.ReadTimeout, OK) as asking:
        with pytest.raises(LostAnswerError):
            await asking.get_app("a")
    assert clock.slept == []


FULL = "could not find a candidate host"
HOST_FULL = "aborted: could not reserve resource for machine: insufficient memory available"
HELD = "machine ID 1 lease currently held by x@tokens.fly.io, expires at 2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("status", "body", "kind", "remedy"),
    [
        (401, {}, PlatformError, "FLY_API_TOKEN"),
        (403, {}, PlatformError, "another organization"),
        (404, {}, PlatformError, "viral plan"),
        (408, {}, PlatformError, "goes on where it was"),
        (409, {}, ConflictError, "looks anew"),
        (412, {"error": "failed_precondition: x"}, ConflictError, "looks anew"),
        (409, {"error": HELD}, LeaseHeldError, "within seconds"),
        (409, {"error": HOST_FULL}, NoCapacityError, "another region"),
        (409, {"error": "aborted: no capacity"}, NoCapacityError, "another region"),
        (422, {"error": FULL, "status": "insufficient_capacity"}, NoCapacityError, "no room"),
        (412, {"status": "volume_placement_capacity"}, NoCapacityError, "no room"),
        (429, {}, PlatformError, "asked too often"),
        (500, {}, PlatformError, "status page"),
        (504, {}, PlatformError, "status page"),
    ],
)
def test_each_documented_refusal_has_its_kind_and_a_remedy(
    status: int, body: dict[str, str], kind: type[PlatformError], remedy: str
) -> None:
    error = refusal_of(httpx.Response(status, json=body))
    assert isinstance(error, kind)
    assert (error.status, remedy in error.suggestion) == (status, True), error.suggestion
