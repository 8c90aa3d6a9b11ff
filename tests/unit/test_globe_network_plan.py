"""Addresses, links and what faults make of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viral_engine.errors import MisuseError
from viral_engine.globe.network.addresses import (
    FIRST_MACHINE,
    LAST_MACHINE,
    AddressPlan,
    NetworkMode,
    users,
)
from viral_engine.globe.network.links import (
    FaultKind,
    Link,
    NetworkFault,
    anycast_routes,
    healthy,
    with_faults,
)
from viral_engine.topology.regions import all_regions
from viral_engine.topology.rtt import round_trip_ms

CODES = tuple(all_regions())
THREE = ("iad", "lhr", "fra")
regions = st.lists(st.sampled_from(CODES), min_size=1, max_size=8, unique=True).map(tuple)


@given(regions, st.sampled_from(NetworkMode), st.sampled_from([64, 254]))
def test_no_two_parts_of_a_globe_have_the_same_address(
    codes: tuple[str, ...], mode: NetworkMode, block: int
) -> None:
    plan = AddressPlan(mode, codes, block)
    last = LAST_MACHINE - FIRST_MACHINE
    all_of_them = [plan.anycast]
    for code in codes:
        all_of_them += [plan.edge(code), plan.user(code), plan.machine(code, 0)]
        all_of_them += [plan.machine(code, 1), plan.machine(code, last)]
    assert len(set(all_of_them)) == len(all_of_them)
    assert all(0 <= int(part) <= 254 for address in all_of_them for part in address.split("."))


@given(regions, st.sampled_from(NetworkMode), st.data())
def test_a_private_address_belongs_to_the_region_that_it_was_given_to(
    codes: tuple[str, ...], mode: NetworkMode, data: st.DataObject
) -> None:
    plan = AddressPlan(mode, codes, 77)
    code = data.draw(st.sampled_from(codes))
    assert plan.owner(plan.edge(code)) == code
    assert plan.owner(plan.machine(code, data.draw(st.integers(0, 240)))) == code
    assert plan.owner(plan.anycast) is None
    assert plan.owner("192.0.2.1") is None


def test_places_added_at_the_end_move_no_address() -> None:
    small = AddressPlan(NetworkMode.WAN, ("iad", "lhr"))
    large = AddressPlan(NetworkMode.WAN, ("iad", "lhr", "syd"))
    assert [small.machine(code, 3) for code in ("iad", "lhr")] == [
        large.machine(code, 3) for code in ("iad", "lhr")
    ]


@given(regions, st.floats(0, 10))
def test_users_reach_every_region_and_never_each_other(
    codes: tuple[str, ...], factor: float
) -> None:
    links = healthy(codes, rtt_factor=factor)
    for near, far in permutations(codes, 2):
        assert (near, far) in links
        assert (users(near), users(far)) not in links
    for near in codes:
        for far in codes:
            there, back = links[users(near), far], links[far, users(near)]
            assert there.delay_ms + back.delay_ms == pytest.approx(
                round_trip_ms(near, far) * factor
            )
    assert not any(link.cut or link.loss for link in links.values())


@pytest.mark.parametrize(
    ("fault", "cut"),
    [
        (NetworkFault(FaultKind.CUT, ("iad", "lhr")), {("iad", "lhr"), ("lhr", "iad")}),
        (NetworkFault(FaultKind.ONE_WAY, ("iad", "lhr")), {("iad", "lhr")}),
        (
            NetworkFault(FaultKind.BLACKOUT, ("lhr",)),
            {(a, b) for a, b in healthy(THREE, rtt_factor=1) if "lhr" in (a, b)},
        ),
    ],
)
def test_a_cut_hits_exactly_its_links(fault: NetworkFault, cut: set[tuple[str, str]]) -> None:
    links = with_faults(healthy(THREE, rtt_factor=1), [fault])
    assert {pair for pair, link in links.items() if link.cut} == cut


def test_a_blackout_takes_the_region_from_everybodys_users_but_leaves_its_own_the_others() -> None:
    links = with_faults(healthy(THREE, rtt_factor=1), [NetworkFault(FaultKind.BLACKOUT, ("lhr",))])
    assert links[users("lhr"), "lhr"].cut
    assert links[users("iad"), "lhr"].cut
    assert not links[users("lhr"), "iad"].cut


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_delays_multiply_and_keep_to_their_pair(first: float, second: float) -> None:
    before = healthy(THREE, rtt_factor=1)
    everywhere = NetworkFault(FaultKind.DELAY, (), first)
    pair = NetworkFault(FaultKind.DELAY, ("iad", "lhr"), second)
    after = with_faults(before, [everywhere, pair])
    for ends, link in before.items():
        factor = first * second if set(ends) == {"iad", "lhr"} else first
        assert after[ends].delay_ms == pytest.approx(link.delay_ms * factor)
        assert replace(after[ends], delay_ms=link.delay_ms) == link


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_losses_add_up_as_independent_chances_and_never_beyond_one(shares: list[float]) -> None:
    faults = [NetworkFault(FaultKind.LOSS, (), share) for share in shares]
    kept = 1.0
    for share in shares:
        kept *= 1 - share
    link = with_faults({("a", "b"): Link(1.0)}, faults)["a", "b"]
    assert link.loss == pytest.approx(1 - kept)
    assert 0 <= link.loss <= 1


def test_links_without_faults_are_as_before() -> None:
    before = healthy(THREE, rtt_factor=1)
    assert with_faults(before, []) == before


@pytest.mark.parametrize(
    "fault",
    [
        NetworkFault(FaultKind.CUT, ("iad",)),
        NetworkFault(FaultKind.CUT, ("iad", "iad")),
        NetworkFault(FaultKind.ONE_WAY, ()),
        NetworkFault(FaultKind.BLACKOUT, ("iad", "lhr")),
        NetworkFault(FaultKind.BLACKOUT, ()),
        NetworkFault(FaultKind.CUT, ("iad", "syd")),
        NetworkFault(FaultKind.BLACKOUT, (users("iad"),)),
        NetworkFault(FaultKind.DELAY, ("iad",), 2),
        NetworkFault(FaultKind.DELAY, (), 0),
        NetworkFault(FaultKind.DELAY, (), 101),
        NetworkFault(FaultKind.DELAY, (), float("nan")),
        NetworkFault(FaultKind.LOSS, (), 0),
        NetworkFault(FaultKind.LOSS, (), 1.01),
        NetworkFault(FaultKind.LOSS, ("iad", "lhr", "fra"), 0.5),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(fault: NetworkFault) -> None:
    with pytest.raises(MisuseError):
        fault.check(THREE)


@pytest.mark.parametrize(
    "fault",
    [
        NetworkFault(FaultKind.DELAY, (), 100),
        NetworkFault(FaultKind.LOSS, ("iad", "lhr"), 1),
        NetworkFault(FaultKind.BLACKOUT, ("fra",)),
    ],
)
def test_a_fault_at_its_limits_is_taken(fault: NetworkFault) -> None:
    assert fault.check(THREE) is fault


@given(regions, st.data())
def test_anycast_leads_users_to_the_nearest_edge_that_is_alive(
    codes: tuple[str, ...], data: st.DataObject
) -> None:
    alive = frozenset(data.draw(st.lists(st.sampled_from(codes), unique=True)))
    routes = anycast_routes(codes, alive)
    assert set(routes) == ({users(code) for code in codes} if alive else set())
    for code in codes:
        for other in alive:
            assert round_trip_ms(code, routes[users(code)]) <= round_trip_ms(code, other)
