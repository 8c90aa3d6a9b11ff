"""Looks at what machines answer while they bake, and rules as soon as that can be done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

from viral_engine.clock import NotYet, wait_until
from viral_engine.errors import OperationError, PlatformError, WaitTimeoutError
from viral_engine.fly.client import FlyClient
from viral_engine.observe.requests import RequestFigures
from viral_engine.operations.control import ctl
from viral_engine.operations.rollout.judge import (
    FEWEST_FAILURES,
    Before,
    Objective,
    Ruling,
    Verdict,
    judge,
)

ASK_WITHIN = timedelta(seconds=20)
LOOK_S = 10.0
"""A machine that nobody's request fails in is asked anew after so many seconds."""

WATCHED_WITHIN = timedelta(seconds=10)
POLL = timedelta(milliseconds=200)


@dataclass(frozen=True, slots=True)
class Inside:
    """A machine that is asked from inside."""

    app: str
    machine: str


async def figures_of(
    client: FlyClient, inside: Inside, *, failed: int = 0, within: float = 0.0
) -> tuple[RequestFigures, int] | None:
    """What a machine answered, and how many watch it; None where it does not say.

    With ``within`` seconds it answers as soon as so many requests have ``failed``, or then.
    """
    words = ["requests", "--failed", str(failed), "--within", f"{within:g}"]
    limit = ASK_WITHIN + timedelta(seconds=within)
    try:
        said = await ctl(client, inside, *words, timeout=limit)
        return RequestFigures.from_facts(said), int(said["watchers"])
    except (PlatformError, OperationError, KeyError, TypeError, ValueError):
        return None


@dataclass(eq=False, slots=True)
class Watch:
    """A bake of machines, ``inside`` by name: from before users reach them until it is ruled.

    Each machine is asked from inside, by a question that it answers once something fails.
    """

    client: FlyClient
    inside: Mapping[str, Inside]
    old: Before
    objective: Objective
    healthy: Callable[[str], Awaitable[str]]
    """Says what is wrong with a machine, empty for nothing."""
    _seen: dict[str, RequestFigures] = field(default_factory=dict)
    _asking: dict[asyncio.Task[None], str] = field(default_factory=dict)
    _restarted: str = ""

    @property
    def seen(self) -> RequestFigures:
        """What all of them answered, as far as it is known."""
        return sum(self._seen.values(), RequestFigures())

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[None]:
        """Have a question open at every machine that answers any, before the block begins."""
        try:
            for name in self.inside:
                self._ask(name)
            await asyncio.gather(*map(self._until_watched, self.inside))
            yield
        finally:
            for task in self._asking:
                task.cancel()
            await asyncio.gather(*self._asking, return_exceptions=True)

    async def ruled(
        self, leading: Coroutine[None, None, None], seconds: float, *, decides: bool,
        quiet_is_well: bool,
    ) -> Ruling:  # fmt: skip
        """Bake for so long once users were led there, or until it is clear that this goes wrong.

        ``leading`` is what leads them; it raises what that does. Only what ``decides`` is unknown.
        """
        if ruling := await self._ruled_before(leading):
            return ruling
        if ruling := await self._ruled_before(asyncio.sleep(seconds)):
            return ruling
        return await self._ruled_at_the_end(quiet_is_well=quiet_is_well or not decides)

    async def _ruled_before(self, end: Coroutine[None, None, None]) -> Ruling | None:
        """Rule before something comes to its end, and then that ends at once; None after it."""
        until = asyncio.create_task(end)
        try:
            while not until.done():
                if ruling := await self._ruled_early():
                    return ruling
                for name in set(self.inside) - set(self._asking.values()):
                    self._ask(name)
                answered, _ = await asyncio.wait(
                    {until, *self._asking}, return_when=asyncio.FIRST_COMPLETED
                )
                for one in answered:
                    one.result()
            until.result()
        finally:
            until.cancel()
            await asyncio.gather(until, return_exceptions=True)
        return None

    async def _ruled_early(self) -> Ruling | None:
        if ruling := judge(self.seen, self.old, self.objective, over=False):
            return ruling
        if self._restarted:
            return Ruling(Verdict.BACK, f"{self._restarted} was started anew while it baked")
        for name in self.inside:
            if wrong := await self.healthy(name):
                return Ruling(Verdict.BACK, wrong)
        return None

    async def _ruled_at_the_end(self, *, quiet_is_well: bool) -> Ruling:
        await asyncio.gather(*(self._look(name, 0.0) for name in self.inside))
        if ruling := await self._ruled_early():
            return ruling
        silent = [name for name in self.inside if name not in self._seen]
        if silent and not quiet_is_well:
            return Ruling(Verdict.UNKNOWN, f"{', '.join(silent)} did not say what it answered")
        ruling = judge(self.seen, self.old, self.objective, over=True, quiet_is_well=quiet_is_well)
        assert ruling is not None
        return ruling

    def _ask(self, name: str) -> None:
        task = asyncio.create_task(self._look(name, LOOK_S))
        self._asking[task] = name
        task.add_done_callback(self._asking.pop)

    async def _look(self, name: str, within: float) -> None:
        """Ask a machine for all that it answered, and keep it."""
        before = self._seen.get(name, RequestFigures())
        told = await figures_of(
            self.client, self.inside[name], failed=before.failed + FEWEST_FAILURES, within=within
        )
        if told is None:
            await asyncio.sleep(POLL.total_seconds())  # before it is asked anew
            return
        if before.run not in ("", told[0].run):
            self._restarted = name
        self._seen[name] = told[0]

    async def _until_watched(self, name: str) -> None:
        async def watched() -> bool | NotYet:
            told = await figures_of(self.client, self.inside[name])
            return told is None or told[1] > 0 or NotYet("nobody watches")

        with suppress(WaitTimeoutError):  # then its failures are seen a little later
            await wait_until(
                watched, timeout=WATCHED_WITHIN, interval=POLL, waiting_for=f"{name} to be watched"
            )
