"""The hub's decisions: what arrives, when, where, and in which order."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viral_engine.globe.network.hub import Direction, Hub

PLACES = ["iad", "lhr", "users:iad"]
NETS = {bytes((10, 10, 1)): 0, bytes((10, 10, 2)): 1, bytes((10, 11, 1)): 2}
ANYCAST = bytes((10, 12, 0, 1))


class Ends(Hub):
    """A hub that knows the far ends of its cables."""

    __slots__ = ("far",)
    far: list[socket.socket]


@pytest.fixture
def hub() -> Iterator[Ends]:
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in PLACES]
    made = Ends(PLACES, [near for near, _ in pairs], NETS, ANYCAST, random.Random(1))
    for near, far in pairs:
        near.setblocking(False)
        far.setblocking(False)
    made.far = [far for _, far in pairs]
    yield made
    for near, far in pairs:
        near.close()
        far.close()


def frame(destination: bytes, payload: bytes = b"", ethertype: bytes = b"\x08\x00") -> bytes:
    return bytes(12) + ethertype + bytes(16) + destination + payload


def arrived(hub: Ends, place: int) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(hub.far[place].recv(65536)[34:])
        except BlockingIOError:
            return found


def link(
    a: str, b: str, delay_ms: float = 10, *, loss: float = 0, cut: bool = False
) -> list[object]:
    return [a, b, delay_ms, 0.0, loss, cut]


LHR = bytes((10, 10, 2, 10))


def test_a_packet_arrives_after_its_delay_and_not_before(hub: Ends) -> None:
    hub.obey({"links": [link("iad", "lhr", 40)]})
    hub.accept(0, frame(LHR, b"hi"), 100.0)
    assert hub.patience(100.0) == pytest.approx(0.04)
    hub.deliver(100.039)
    assert arrived(hub, 1) == []
    hub.deliver(100.0401)
    assert (arrived(hub, 1), hub.patience(101)) == ([b"hi"], None)


def test_what_has_no_link_yet_is_cut(hub: Ends) -> None:
    hub.accept(0, frame(LHR), 0.0)
    hub.deliver(1e9)
    assert arrived(hub, 1) == []
    assert hub.obey({"stats": True}) == {"stats": [["iad", "lhr", 0, 0, 1]]}


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"\0" * 13,
        frame(b""),
        frame(b"\x0a\x0a"),
        frame(bytes((192, 0, 2, 1))),
        frame(bytes((10, 10, 1, 10))),
        frame(LHR, ethertype=b"\x86\xdd"),
        frame(LHR, ethertype=b"\x08\x06"),
    ],
    ids=["empty", "cut", "no address", "half", "unknown", "to itself", "ipv6", "arp"],
)
def test_a_frame_that_leads_nowhere_is_ignored(hub: Ends, odd: bytes) -> None:
    hub.obey({"links": [link("iad", "lhr")]})
    hub.accept(0, odd, 0.0)
    assert hub.under_way == []
    assert hub.obey({"stats": True}) == {"stats": []}


def test_anycast_leads_where_the_last_routes_say_and_nowhere_without(hub: Ends) -> None:
    hub.obey({"links": [link("users:iad", "iad"), link("users:iad", "lhr")]})
    hub.accept(2, frame(ANYCAST, b"none"), 0.0)
    hub.obey({"anycast": {"users:iad": "iad"}})
    hub.accept(2, frame(ANYCAST, b"first"), 0.0)
    hub.obey({"anycast": {"users:iad": "lhr"}})
    hub.accept(2, frame(ANYCAST, b"second"), 0.0)
    hub.obey({"anycast": {}})
    hub.accept(2, frame(ANYCAST, b"none"), 0.0)
    hub.deliver(1)
    assert (arrived(hub, 0), arrived(hub, 1)) == ([b"first"], [b"second"])


def test_a_receiver_that_is_full_or_gone_costs_only_its_own_packets(hub: Ends) -> None:
    hub.obey({"links": [link("iad", "lhr", 0), link("lhr", "iad", 0)]})
    for _ in range(5000):
        hub.accept(0, frame(LHR, bytes(1000)), 0.0)
    hub.deliver(1)
    assert 0 < len(arrived(hub, 1)) < 5000
    hub.far[1].close()
    hub.accept(0, frame(LHR), 2)
    hub.accept(1, frame(bytes((10, 10, 1, 10)), b"on"), 2)
    hub.deliver(3)
    assert arrived(hub, 0) == [b"on"]


def test_an_unknown_message_is_answered_and_changes_nothing(hub: Ends) -> None:
    assert "unknown message" in str(hub.obey({"links": "all"})["error"])
    assert "unknown message" in str(hub.obey({})["error"])


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.5)), min_size=1, max_size=50),
    st.floats(0, 2),
    st.integers(),
)
def test_order_within_a_direction_is_kept_whatever_delay_and_jitter_do(
    steps: list[tuple[float, float]], jitter: float, seed: int
) -> None:
    direction = Direction(jitter=jitter, cut=False)
    chance = random.Random(seed)
    now, last = 0.0, 0.0
    for pause, delay in steps:
        now += pause
        direction.delay_s = delay
        due = direction.due(now, chance)
        assert due is not None
        assert due >= max(last, now)
        last = due
    assert direction.forwarded == len(steps)


@given(st.floats(0, 1), st.integers())
def test_every_packet_is_counted_once_as_forwarded_or_lost(loss: float, seed: int) -> None:
    direction = Direction(loss=loss, cut=False)
    chance = random.Random(seed)
    kept = sum(direction.due(0, chance) is not None for _ in range(100))
    assert (direction.forwarded, direction.lost, direction.dropped) == (kept, 100 - kept, 0)
    if loss in (0.0, 1.0):
        assert kept == (0 if loss else 100)


def test_without_jitter_the_delay_is_exact_and_a_cut_beats_loss() -> None:
    direction = Direction(delay_s=0.05, cut=False)
    assert direction.due(1, random.Random(0)) == pytest.approx(1.05)
    direction.cut, direction.loss = True, 1.0
    assert direction.due(2, random.Random(0)) is None
    assert (direction.dropped, direction.lost) == (1, 0)
