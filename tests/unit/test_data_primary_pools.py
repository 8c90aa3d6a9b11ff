"""Which way a connection to the primary takes."""

from __future__ import annotations

import pytest

from viral_engine.cluster import ClusterView, DatabaseAddresses
from viral_engine.cluster.view import Answer, Observation, build_view
from viral_engine.data.primary_pools import PrimaryPools
from viral_engine.lsn import Lsn

PROXY = "postgresql://proxy/app"
NODES = {region: f"postgresql://{region}/app" for region in ("iad", "lhr")}


def view(primary: str | None, *, guarded: bool = True) -> ClusterView:
    seen = [
        Observation(region, 0, Answer(region != primary, 1, Lsn(1), 0.0, guarded=guarded))
        for region in NODES
    ]
    return build_view(NODES, seen, now=0, fresh_for=3)


def pools(seen: list[ClusterView], *, pooler: str | None = None) -> PrimaryPools:
    addresses = DatabaseAddresses(primary=PROXY, nodes=NODES, pooler=pooler)
    made = PrimaryPools.of(addresses, view=lambda: seen[0], name="t", read_only=False, size=1)
    assert made
    return made


async def test_what_proves_that_it_is_the_primary_is_asked_straight_and_so_is_the_next() -> None:
    seen = [view("iad")]
    made = pools(seen)
    before = made.now()
    assert made.now() is before
    seen[0] = view("lhr")
    after = made.now()
    seen[0] = view("iad")
    assert after is not before
    assert made.now() is before


@pytest.mark.parametrize("seen", [view(None), view("iad", guarded=False)])
async def test_where_nothing_is_proven_the_apps_own_way_is_taken(seen: ClusterView) -> None:
    views = [view("iad")]
    made = pools(views)
    straight = made.now()
    views[0] = seen
    assert made.now() is made._common
    assert made.now() is not straight


async def test_a_pooler_is_never_passed_by() -> None:
    made = pools([view("iad")], pooler="postgresql://pooler/app")
    assert made.now() is made._common


async def test_without_an_address_there_is_no_way() -> None:
    addresses = DatabaseAddresses(primary=None, nodes={})
    none = PrimaryPools.of(addresses, view=lambda: view(None), name="t", read_only=False, size=1)
    assert none is None
