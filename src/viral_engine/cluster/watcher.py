from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Self

from viral_engine.clock import SYSTEM_CLOCK, Clock
from viral_engine.cluster.probe import NodeProbe
from viral_engine.cluster.replay import ReplayWatcher
from viral_engine.cluster.view import ClusterView, Observation, Role, build_view
from viral_engine.lsn import Lsn
from viral_engine.observe import Event, Listener, NodeAnswered, NodeLost, PrimaryChanged

__all__ = ["ClusterWatcher"]

DEFAULT_INTERVAL = timedelta(seconds=1)
HURRIED_S = 0.2
"""Between two questions while somebody waits for the view to change."""
# One interval, one probe that ran into its limit, and a margin for a busy event loop.
FRESH_FOR = timedelta(seconds=5)


class ClusterWatcher:
    """Asks every region's database once per interval who it is, and keeps the view of them.

    Entered, it watches; the first view has every node unreachable, since nothing was seen yet.
    Its view is replaced, never changed, so a reader may keep one as long as it likes.
    ``asks_primacy`` is for the control arm of drills: without it a node's word is taken for it.
    """

    def __init__(
        self,
        nodes: Mapping[str, str],
        *,
        machine: str,
        interval: timedelta = DEFAULT_INTERVAL,
        clock: Clock = SYSTEM_CLOCK,
        listener: Listener | None = None,
        asks_primacy: bool = True,
    ) -> None:
        self._asks_primacy = asks_primacy
        self._probes = {
            region: NodeProbe(region, url, machine=machine) for region, url in nodes.items()
        }
        # Their connections are others than those of the regular questions, which may hang.
        self._replay_probes = {
            region: NodeProbe(region, url, machine=machine) for region, url in nodes.items()
        }
        self._replays = {
            region: ReplayWatcher(partial(probe.ask, clock), publish=self._publish)
            for region, probe in self._replay_probes.items()
        }
        self._timelines: dict[str, int] = {}
        self._interval = interval.total_seconds()
        self._clock = clock
        self._listener = listener
        self._observations: dict[str, Observation] = {}
        self._view = build_view(self._probes, (), now=0, fresh_for=0)
        self._changed = asyncio.Event()
        self._waited_for = 0
        self._hurry = asyncio.Event()
        self._tasks = AsyncExitStack()

    @property
    def view(self) -> ClusterView:
        """What is known now; at most one interval and one probe's limit (2 s) old."""
        return self._view

    async def wait_for(
        self, holds: Callable[[ClusterView], bool], *, timeout: timedelta
    ) -> ClusterView:
        """Return the first view for which ``holds``, or the view at the time when time ran out."""
        self._waited_for += 1
        self._hurry.set()
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                while not holds(self._view):
                    await self._changed.wait()
        except TimeoutError:
            pass
        finally:
            self._waited_for -= 1
            if not self._waited_for:
                self._hurry.clear()
        return self._view

    async def wait_until_replayed(
        self, region: str, *, timeline: int, lsn: Lsn, timeout: timedelta
    ) -> bool:
        """Return when the view has the replica of ``region`` at or past ``lsn`` of ``timeline``.

        Or when it became clear that it will not get there, or time ran out. True when the replica
        had to be waited for; False when it was there, and only the view was older.
        """
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                return await self._replays[region].wait(timeline, lsn)
        except TimeoutError:
            return True

    def note_replayed(self, region: str, *, timeline: int, lsn: Lsn) -> None:
        """Count in that a streaming replica was seen at ``lsn`` by somebody who had to ask anyway."""
        known, node = self._observations.get(region), self._view.node(region)
        if known is None or known.answer is None or node is None or node.lsn is None:
            return
        if node.role is not Role.REPLICA or not node.streaming or node.timeline != timeline:
            return
        if lsn > node.lsn:
            self._observations[region] = replace(known, answer=replace(known.answer, lsn=lsn))
            self._view = self._view.with_replayed(region, lsn)

    async def __aenter__(self) -> Self:
        for probe in self._replay_probes.values():
            await self._tasks.enter_async_context(probe)
        group = await self._tasks.enter_async_context(asyncio.TaskGroup())
        for region, replay in self._replays.items():
            task = group.create_task(replay.run(), name=f"watch replay {region}")
            self._tasks.callback(task.cancel)
        for probe in self._probes.values():
            task = group.create_task(self._watch(probe), name=f"watch {probe.region}")
            self._tasks.callback(task.cancel)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._tasks.aclose()

    async def _watch(self, probe: NodeProbe) -> None:
        async with probe:
            due = self._clock.monotonic()
            while True:
                self._publish(await probe.ask(self._clock))
                # A slow answer delays the next question; it never makes them queue up.
                due = max(due + self._interval, self._clock.monotonic())
                with suppress(TimeoutError):
                    async with asyncio.timeout(due - self._clock.monotonic()):
                        await self._hurry.wait()
                        await asyncio.sleep(min(HURRIED_S, self._interval))
                        due = self._clock.monotonic()

    def _publish(self, observation: Observation) -> None:
        known = self._observations.get(observation.region)
        if known is not None and known.observed_at > observation.observed_at:
            # Two connections ask; what was asked earlier must not undo the later answer. What it
            # showed replayed is so all the same: a node may answer them in another order.
            if (seen := observation.answer) is not None and seen.in_recovery and seen.streaming:
                self.note_replayed(observation.region, timeline=seen.timeline, lsn=seen.lsn)
            return
        if observation.answer is not None and not self._asks_primacy:
            answer = replace(observation.answer, guarded=False)
            observation = replace(observation, answer=answer)
        self._observations[observation.region] = self._with_timeline(observation)
        before = self._view
        self._view = build_view(
            self._probes,
            self._observations.values(),
            now=self._clock.monotonic(),
            fresh_for=FRESH_FOR.total_seconds(),
        )
        for event in _differences(before, self._view):
            if self._listener is not None:
                self._listener(event)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _with_timeline(self, observation: Observation) -> Observation:
        # A replica that streams no more tells the timeline of its last checkpoint, which may be
        # older than what it has replayed; it was seen on the later one while it streamed.
        answer = observation.answer
        if answer is None:
            return observation
        timeline = answer.timeline
        if not answer.streaming:
            timeline = max(timeline, self._timelines.get(observation.region, 0))
        self._timelines[observation.region] = timeline
        return replace(observation, answer=replace(answer, timeline=timeline))


def _differences(before: ClusterView, after: ClusterView) -> list[Event]:
    events: list[Event] = []
    for old, new in zip(before.nodes, after.nodes, strict=True):
        if old.reachable and not new.reachable:
            events.append(NodeLost(new.region, new.reason))
        elif new.reachable and not old.reachable:
            events.append(NodeAnswered(new.region, new.role.value))
    if before.primary_region != after.primary_region:
        events.append(PrimaryChanged(before.primary_region, after.primary_region))
    return events
