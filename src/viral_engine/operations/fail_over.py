"""Hands the primary over to another region, planned: nothing is lost, and writes wait a moment."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from viral_engine.clock import NotYet, wait_until
from viral_engine.errors import MisuseError, RefusedError
from viral_engine.fly.client import FlyClient
from viral_engine.operations.change_duty import do_stages
from viral_engine.operations.control import ctl
from viral_engine.operations.formation import Formation, Standing, ask_standing
from viral_engine.operations.progress import Progress, step
from viral_engine.operations.turn_over import TurnOver, plan_turn_over

HANDED_OVER_WITHIN = timedelta(seconds=90)
ACKNOWLEDGES_WITHIN = timedelta(seconds=30)
STREAMS_WITHIN = timedelta(seconds=90)
POLL = timedelta(milliseconds=300)

DEFAULT_MAX_LAG = 1024**2
"""Bytes: the limit that Patroni itself keeps to when it chooses alone."""


@dataclass(frozen=True, slots=True)
class FailoverPlan:
    """What a planned failover will do; ``handed_over``: an earlier one got as far as that."""

    was: str
    to: str
    lag_bytes: int
    handed_over: bool = False
    streams: bool = True
    """Whether the old primary can come back now; one whose machine is stopped is not waited for."""
    turn: TurnOver = field(default_factory=TurnOver)

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps in their order, as they are shown before and while they are done."""
        return (
            *(task.sentence for stage in self.turn.activate for task in stage),
            *(() if self.handed_over else (self.hand_over,)),
            self.acknowledge,
            *(task.sentence for stage in self.turn.stand_down for task in stage),
            *((self.stream,) if self.streams else ()),
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What has to be known before saying yes: nothing."""
        return ()

    @property
    def hand_over(self) -> str:
        """The step that moves the primary."""
        return f"Hand the primary over from {self.was} to {self.to}"

    @property
    def acknowledge(self) -> str:
        """The step that proves it."""
        return f"Wait until {self.to} acknowledges writes"

    @property
    def stream(self) -> str:
        """The step after which a region can be lost again."""
        return f"Wait until {self.was} streams again as synchronous standby"

    def facts(self) -> dict[str, Any]:
        """The plan for programs."""
        return {"primary": self.was, "to": self.to, "lag_bytes": self.lag_bytes,
                "warnings": list(self.warnings), "steps": list(self.steps)}  # fmt: skip


def plan_failover(formation: Formation, to: str, *, max_lag: int = DEFAULT_MAX_LAG) -> FailoverPlan:
    """Decide what to do, or raise MisuseError or RefusedError with what speaks against it."""
    target = formation.at(to)
    primary = formation.primary
    if target is primary:
        return _rest_of(formation, target)
    if primary is None or not primary.acknowledges:
        raise RefusedError(
            "No primary acknowledges writes at the moment, so there is none to hand over.",
            suggestion=f"If it does not come back by itself: viral promote {to}.",
        )
    if target.error:
        raise RefusedError(f"The database in {to} does not answer: {target.error}.")
    _refuse_ill(formation, primary)
    if not target.streaming:
        raise RefusedError(
            f"{to} does not stream from the primary in {primary.region}.",
            suggestion=f"Its output: viral logs --region {to}.",
        )
    lag = lag_of(target, primary)
    if lag > max_lag:
        raise RefusedError(
            f"{to} is {lag} bytes behind {primary.region}, and the limit is {max_lag}.",
            suggestion="Wait until it has caught up, or allow more with --max-lag.",
        )
    if to not in primary.synchronous:
        now = ", ".join(primary.synchronous) or "none"
        raise RefusedError(
            f"{to} is not the synchronous standby: what was acknowledged might not be there.",
            suggestion=f"The synchronous standby is: {now}.",
        )
    return FailoverPlan(primary.region, to, lag, turn=plan_turn_over(formation, to))


def lag_of(target: Standing, primary: Standing) -> int:
    """How many bytes of the primary's log the target had not received when both were asked."""
    if target.received is None or primary.received is None:
        raise RefusedError(f"{target.region} does not say how far it is.")
    return max(0, primary.received - target.received)


def _rest_of(formation: Formation, target: Standing) -> FailoverPlan:
    """What an interrupted failover left to do; raises MisuseError where that is nothing."""
    others = [one for one in formation.databases if one is not target]
    waiting = [one.region for one in others if one.running and not one.streaming]
    turn = plan_turn_over(formation, target.region)
    protected = not waiting and (target.synchronous or not others)
    if target.acknowledges and protected and turn.is_done:
        raise MisuseError(f"{target.region} is the primary already.")
    if not others:
        raise RefusedError(f"{target.region} is the primary, and acknowledges no writes.")
    was = (waiting or [others[0].region])[0]
    # One that is stopped or lost must not keep users from being served by the new region.
    streams = not formation.at(was).error or turn.is_done
    return FailoverPlan(was, target.region, 0, handed_over=True, streams=streams, turn=turn)


def _refuse_ill(formation: Formation, primary: Standing) -> None:
    if primary.paused:
        raise RefusedError(
            "Patroni is paused: it moves nothing.", suggestion="Resume it first: patronictl resume."
        )
    silent = [region for region, answers in primary.voices.items() if not answers]
    if silent or not primary.majority:
        raise RefusedError(
            f"etcd does not answer in {', '.join(silent) or 'time'}: the deployment is not healthy.",
            suggestion="See: viral status.",
        )
    mute = [one.region for one in formation.databases if one.error]
    if mute:
        raise RefusedError(
            f"The database in {', '.join(mute)} does not answer: the deployment is not healthy.",
            suggestion="See: viral status.",
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is true after an operation; ``paused_s`` is the longest that a write can have waited."""

    primary: str
    was: str | None
    standbys: tuple[str, ...]
    paused_s: float | None = None

    def facts(self) -> dict[str, Any]:
        """The outcome for programs."""
        return {"primary": self.primary, "was": self.was, "synchronous": list(self.standbys),
                "writes_paused_seconds": self.paused_s}  # fmt: skip

    def sentence(self) -> str:
        """The outcome for people."""
        was = f" (was {self.was})" if self.was else ""
        standby = "".join(f", standby {region} synchronous" for region in self.standbys)
        paused = f", writes paused for about {self.paused_s:.1f} s" if self.paused_s else ""
        return f"primary {self.primary}{was}{standby}{paused}"


async def fail_over(
    client: FlyClient, formation: Formation, plan: FailoverPlan, progress: Progress
) -> Outcome:
    """Do what was planned and return what then is true; raises ViralError otherwise.

    What was done stays done: planned anew, what is left is less.
    """
    target = formation.at(plan.to)
    paused: float | None = None
    await do_stages(client, plan.turn.activate, progress)
    if not plan.handed_over:
        with step(progress, plan.hand_over):
            paused = await _hand_over(client, formation.at(plan.was), plan.to)
    with step(progress, plan.acknowledge):
        now = await until_acknowledges(client, target)
    await do_stages(client, plan.turn.stand_down, progress)
    if plan.streams:
        with step(progress, plan.stream):
            now = await until_protected(client, target, formation.at(plan.was))
    return Outcome(plan.to, plan.was, now.synchronous, paused)


async def _hand_over(client: FlyClient, primary: Standing, to: str) -> float:
    """Switch over; the answer says how long writes waited, or else all of it counts."""
    started = time.monotonic()
    said = await ctl(client, primary, "switchover", "--to", to, timeout=HANDED_OVER_WITHIN)
    told = said.get("held_seconds")
    return round(float(told) if told is not None else time.monotonic() - started, 1)


async def until_acknowledges(
    client: FlyClient, target: Standing, *, within: timedelta = ACKNOWLEDGES_WITHIN
) -> Standing:
    """Wait until a database is primary under primacy."""

    async def acknowledges() -> Standing | NotYet:
        now = await ask_standing(client, target)
        return now if now.acknowledges else NotYet(now.error or f"{now.region} is {now.role}")

    return await wait_until(
        acknowledges, timeout=within, interval=POLL,
        waiting_for=f"{target.region} to acknowledge writes",
    )  # fmt: skip


async def until_protected(client: FlyClient, target: Standing, old: Standing) -> Standing:
    """Wait until the old primary streams, and the new one has a synchronous standby."""

    async def protected() -> Standing | NotYet:
        before = await ask_standing(client, old)
        if before.error or not before.streaming:
            return NotYet(before.error or f"{old.region} does not stream yet")
        now = await ask_standing(client, target)
        return now if now.synchronous else NotYet(f"{target.region} has no synchronous standby yet")

    return await wait_until(
        protected, timeout=STREAMS_WITHIN, interval=POLL,
        waiting_for=f"{old.region} to stream as synchronous standby; {target.region} is the primary",
    )  # fmt: skip
