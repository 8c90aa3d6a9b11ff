"""A replay that finds nobody comes back to where it was asked for, before and after the edge knows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from tests.services.edge_world import Answer, Edge, Machine, Seen, replay, world


class Globe:
    """A machine in lhr and one in iad, behind the edge of lhr."""

    def __init__(self, edge: Edge, near: Machine, far: Machine) -> None:
        self.edge = edge
        self.client = edge.client
        self.near = near
        self.far = far


def asks_once(header: str, seen: Seen) -> Answer | None:
    """Ask for a replay, unless this one has come back."""
    return None if "fly-replay-failed" in seen.headers else replay(header)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def globe() -> AsyncIterator[Globe]:
    async with world() as here:
        near, far = await here.machines(lhr=1, iad=1)
        yield Globe(await here.edge("lhr", [near, far]), near, far)


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("fallback", ["force_self", "prefer_self"])
async def test_p15_a_replay_that_finds_nobody_comes_back_where_that_was_asked_for(
    globe: Globe, fallback: str
) -> None:
    header = f"region=iad;fallback={fallback};state=signed"
    globe.near.answer = lambda seen: asks_once(header, seen)
    told = (await globe.client.post("/a?b=c", content=b"x" * 1000)).json()
    assert (told["machine"][:3], told["size"]) == ("iad", 1000)
    assert "fly-replay-failed" not in told["headers"]
    globe.far.healthy = False
    await globe.edge.wait_until_healthy([globe.near])
    told = (await globe.client.post("/a?b=c", content=b"x" * 1000)).json()
    assert (told["machine"][:3], told["size"], told["target"]) == ("lhr", 1000, "/a?b=c")
    assert told["headers"]["fly-replay-failed"].startswith("region=iad;reason=")
    assert told["headers"]["fly-replay-src"].endswith(";state=signed")
    assert not {"x-edge-cluster", "x-edge-chosen-region"} & set(told["headers"])
    globe.far.healthy = True
    await globe.edge.wait_until_healthy([globe.near, globe.far])


async def test_p15_a_region_that_is_not_there_sends_it_back_at_once(globe: Globe) -> None:
    globe.near.answer = lambda seen: asks_once("region=syd;fallback=force_self", seen)
    told = (await globe.client.post("/", content=b"x")).json()
    assert told["machine"].startswith("lhr")
    assert told["headers"]["fly-replay-failed"] == "region=syd;reason=no_candidate"


async def test_p15_no_user_can_say_where_a_request_falls_back_to(globe: Globe) -> None:
    globe.near.answer = lambda _seen: None
    forged = {
        "x-edge-cluster": "web~iad", "x-edge-toward": "iad", "fly-replay-failed": "region=nrt",
    }  # fmt: skip
    told = (await globe.client.get("/", headers=forged)).json()
    assert told["machine"].startswith("lhr")
    assert "fly-replay-failed" not in told["headers"]


async def test_p15_what_cannot_be_reached_before_the_edge_has_noticed_sends_it_back_too() -> None:
    async with world() as here:
        (near,) = await here.machines(lhr=1)
        gone = replace(near, id="iad-1", region="iad", address=here.addresses.take())
        near.answer = lambda seen: asks_once("region=iad;fallback=prefer_self", seen)
        edge = await here.edge("lhr", [near, gone], check=None)
        told = (await edge.client.post("/", content=b"x" * 1000)).json()
    assert (told["machine"], told["size"]) == ("lhr-1", 1000)
    assert told["headers"]["fly-replay-failed"] == "region=iad;reason=no_candidate"


async def test_p15_what_another_region_had_taken_over_comes_back_to_that_one() -> None:
    async with world() as here:
        near, far = await here.machines(lhr=1, iad=1)
        near.healthy = False
        far.answer = lambda seen: asks_once("region=lhr;fallback=prefer_self", seen)
        edge = await here.edge("lhr", [near, far])
        told = (await edge.client.post("/", content=b"x" * 1000)).json()
    assert (told["machine"], told["size"]) == ("iad-1", 1000)
    assert told["headers"]["fly-replay-failed"] == "region=lhr;reason=no_candidate"
