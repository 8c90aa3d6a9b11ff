from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from types import TracebackType
from typing import Self

from viral_engine.clock import SYSTEM_CLOCK, Clock
from viral_engine.cluster.probe import NodeProbe
from viral_engine.cluster.view import ClusterView, Observation, build_view
from viral_engine.observe import Event, Listener, NodeAnswered, NodeLost, PrimaryChanged

__all__ = ["ClusterWatcher"]

DEFAULT_INTERVAL = timedelta(seconds=1)
# One interval, one probe that ran into its limit, and a margin for a busy event loop.
FRESH_FOR = timedelta(seconds=5)


class ClusterWatcher:
    """Asks every region's database once per interval who it is, and keeps the view of them.

    Entered, it watches; the first view has every node unreachable, since nothing was seen yet.
    Its view is replaced, never changed, so a reader may keep one as long as it likes.
    """

    def __init__(
        self,
        nodes: Mapping[str, str],
        *,
        machine: str,
        interval: timedelta = DEFAULT_INTERVAL,
        clock: Clock = SYSTEM_CLOCK,
        listener: Listener | None = None,
    ) -> None:
        self._probes = {
            region: NodeProbe(region, url, machine=machine) for region, url in nodes.items()
        }
        self._interval = interval.total_seconds()
        self._clock = clock
        self._listener = listener
        self._observations: dict[str, Observation] = {}
        self._view = build_view(self._probes, (), now=0, fresh_for=0)
        self._changed = asyncio.Event()
        self._tasks = AsyncExitStack()

    @property
    def view(self) -> ClusterView:
        """What is known now; at most one interval and one probe's limit (2 s) old."""
        return self._view

    async def wait_for(
        self, holds: Callable[[ClusterView], bool], *, timeout: timedelta
    ) -> ClusterView:
        """Return the first view for which ``holds``, or the view at the time when time ran out."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout.total_seconds()):
                while not holds(self._view):
                    await self._changed.wait()
        return self._view

    async def __aenter__(self) -> Self:
        group = await self._tasks.enter_async_context(asyncio.TaskGroup())
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
                await asyncio.sleep(due - self._clock.monotonic())

    def _publish(self, observation: Observation) -> None:
        self._observations[observation.region] = observation
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
