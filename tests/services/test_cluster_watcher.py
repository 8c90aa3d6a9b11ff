"""Whoever asks where the primary is gets what the databases say themselves."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from tests.services.postgres_pair import PostgresPair

from viral_engine.cluster import ClusterView, ClusterWatcher, Role
from viral_engine.observe import Event, NodeLost

SOON = timedelta(seconds=10)
OFTEN = timedelta(milliseconds=100)


def _all_answer(view: ClusterView) -> bool:
    return all(node.reachable for node in view.nodes)


async def test_the_view_names_the_primary_the_replica_and_its_lag(
    postgres_pair: PostgresPair,
) -> None:
    nodes = {"iad": postgres_pair.primary.url(), "lhr": postgres_pair.replica.url()}
    async with ClusterWatcher(nodes, machine="m1") as watcher:
        view = await watcher.wait_for(_all_answer, timeout=SOON)
    iad, lhr = view.nodes
    assert view.primary_region == "iad"
    assert (iad.role, iad.lag_seconds, iad.timeline) == (Role.PRIMARY, 0, 1)
    assert (lhr.role, lhr.timeline) == (Role.REPLICA, 1)
    assert lhr.lag_seconds is not None
    assert lhr.lsn is not None


async def test_an_account_without_monitoring_rights_sees_the_same(
    postgres_pair: PostgresPair,
) -> None:
    await postgres_pair.primary.ask("create role plain login")
    await postgres_pair.wait_until_replayed()
    nodes = {
        "iad": postgres_pair.primary.url().replace("postgres@", "plain@"),
        "lhr": postgres_pair.replica.url().replace("postgres@", "plain@"),
    }
    async with ClusterWatcher(nodes, machine="m1") as watcher:
        view = await watcher.wait_for(_all_answer, timeout=SOON)
    assert view.primary_region == "iad"
    assert view.nodes[1].timeline == 1
    assert view.nodes[1].lag_seconds is not None


async def test_a_replica_that_stops_is_unreachable_and_seen_again_when_it_is_back(
    postgres_pair: PostgresPair,
) -> None:
    events: list[Event] = []
    nodes = {"iad": postgres_pair.primary.url(), "lhr": postgres_pair.replica.url()}
    async with ClusterWatcher(
        nodes, machine="m1", interval=OFTEN, listener=events.append
    ) as watcher:
        await watcher.wait_for(_all_answer, timeout=SOON)
        await asyncio.to_thread(postgres_pair.replica.stop, "immediate")
        try:
            view = await watcher.wait_for(lambda seen: not _all_answer(seen), timeout=SOON)
            lost = view.node("lhr")
        finally:
            await asyncio.to_thread(postgres_pair.replica.start)
        assert lost is not None
        assert (lost.reachable, lost.lag_seconds, lost.lsn) == (False, None, None)
        assert view.primary_region == "iad"
        assert _all_answer(await watcher.wait_for(_all_answer, timeout=SOON))
    assert [event.region for event in events if isinstance(event, NodeLost)] == ["lhr"]


async def test_regions_without_any_database_leave_the_view_without_a_primary() -> None:
    nodes = {"iad": "postgresql://nobody@127.0.0.1:1/none"}
    async with ClusterWatcher(nodes, machine="m1", interval=OFTEN) as watcher:
        view = await watcher.wait_for(
            lambda seen: seen.nodes[0].observed_at is not None, timeout=SOON
        )
    assert view.primary_region is None
    assert "refused" in view.nodes[0].reason
