"""Does what a soak's plan says to a globe, one fault after the other, each seen by a second look."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, assert_never

from bench.arm import VIRAL, Arm
from bench.consistency import AWAY
from bench.soak_plan import Act, Step

from viral_engine.clock import NotYet, wait_until
from viral_engine.errors import PlatformError, ViralError
from viral_engine.operations.drills.stories import Stage

INSIDE = Path(__file__).with_name("soak_inside.py")
LOOKOUT = Path(__file__).with_name("soak_lookout.py")

DONE_WITHIN = timedelta(seconds=90)
WELL_WITHIN = timedelta(seconds=120)
MOVED_WITHIN = timedelta(seconds=75)
LOOK_EVERY = timedelta(milliseconds=100)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the primary is, and on which timeline, as its own database says."""

    region: str
    timeline: int

    def __str__(self) -> str:
        return f"{self.region} on timeline {self.timeline}"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault as it was: in seconds of the monotonic clock, from its beginning until all was well.

    ``region`` is what it was done to, or where the primary was handed to. ``seen`` tells whether
    the second look showed what was meant; ``told`` is what it showed.
    """

    act: Act
    region: str
    began: float
    ended: float
    seen: bool
    told: str
    moved: bool = False
    failed: bool = False


def primaries_in(look: Mapping[str, Any]) -> list[Place]:
    """Return every database that says that it is the primary."""
    return [
        Place(region, int(said["timeline"]))
        for region, said in look["databases"].items()
        if said["role"] == "primary" and said["state"] == "running" and said["timeline"]
    ]


def well_in(look: Mapping[str, Any], databases: int) -> Place | NotYet:
    """Return the one primary whose timeline all others stream, one of them ready to take over."""
    primaries = primaries_in(look)
    others = [said for said in look["databases"].values() if said["role"] == "replica"]
    streaming = [one for one in others if one["streaming"] and one["state"] == "running"]
    if len(primaries) != 1 or len(streaming) != databases - 1 or not look["ready"]:
        return NotYet(f"{look}")
    if any(one["timeline"] not in {None, primaries[0].timeline} for one in streaming):
        return NotYet(f"{look}")
    return primaries[0]


def moved(act: Act, before: Place, after: Place) -> bool:
    """Tell whether a fault moved the primary: to another region and a later timeline."""
    there = after.region != before.region and after.timeline > before.timeline
    return act.moves_primary and there


def held(step: Step, told: Mapping[str, Any]) -> bool:
    """Tell whether a standby was held back, and is not any more."""
    if step.act is Act.BURSTS:
        return bool(2 * told["held"] > told["stops"] and told["left"] != "stopped")
    return bool(told["in_force"] == "200ms" and told["left"] == "0")


class Scene:
    """A globe, what can be broken in it, and what a look-out in one region sees of its databases."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._look: Mapping[str, Any] = {}
        self._looks = 0

    @asynccontextmanager
    async def watched(self, globe: Arm) -> AsyncIterator[None]:
        """Keep the look-out for the length of a block."""
        found = await self.stage.machines("database")
        addresses = {one.machine.region: one.machine.private_ip for one in found}
        process = await asyncio.create_subprocess_exec(
            *VIRAL, "exec", "--private", AWAY, "--", sys.executable, str(LOOKOUT), AWAY,
            json.dumps(addresses), env=dict(globe.environ), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        following = asyncio.create_task(self._follow(process))
        try:
            yield
        finally:
            following.cancel()
            process.kill()
            await process.wait()

    async def _follow(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout
        async for line in process.stdout:
            self._look = json.loads(line)
            self._looks += 1

    async def well(self) -> Place:
        """Wait until two looks from now on show that all is well; return where the primary is."""
        databases = len(await self.stage.machines("database"))
        bad = self._looks + 1  # the look under way may be of before

        def is_well() -> Place | NotYet:
            nonlocal bad
            found = well_in(self._look, databases) if self._looks > bad else NotYet("no look yet")
            if isinstance(found, NotYet):
                bad = max(bad, self._looks)
                return found
            return found if self._looks > bad + 1 else NotYet("seen once")

        return await wait_until(
            is_well, timeout=WELL_WITHIN, interval=LOOK_EVERY,
            waiting_for="one primary with all others streaming",
        )  # fmt: skip

    async def until_later(self, before: Place) -> None:
        """Wait until a primary on a later timeline is seen."""

        def is_later() -> bool | NotYet:
            seen = primaries_in(self._look)
            return any(one.timeline > before.timeline for one in seen) or NotYet(f"{self._look}")

        await wait_until(
            is_later, timeout=MOVED_WITHIN, interval=LOOK_EVERY, waiting_for="another primary"
        )

    async def inside(self, region: str, act: str, measure: object) -> Mapping[str, Any]:
        """Do something inside the database machine of a region, and return what was seen of it."""
        found = next(f for f in await self.stage.machines("database") if f.machine.region == region)
        command = ["python", str(INSIDE), act, json.dumps(measure)]
        done = await self.stage.client.exec(
            found.app, found.machine.id, command, timeout=DONE_WITHIN
        )
        if done.exit_code:
            said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
            raise PlatformError(f"{act} in {region} ended with {done.exit_code}: {said[-1]}")
        told: dict[str, Any] = json.loads(done.stdout)
        return told


async def break_all(
    scene: Scene, steps: Iterable[Step], faults: list[Fault], say: Callable[[str], None]
) -> None:
    """Do all steps and note each in ``faults``; the first after which all is not well is the last."""
    for step in steps:
        await asyncio.sleep(step.calm_s)
        began = time.monotonic()
        try:
            fault = await _broken(scene, step, began)
        except (ViralError, ExceptionGroup) as error:
            fault = Fault(step.act, "", began, time.monotonic(), seen=False,
                          told=f"failed: {error}", failed=True)  # fmt: skip
        faults.append(fault)
        say(f"{step.act} {fault.region}: {fault.told}{'' if fault.seen else ' - NOT SEEN'}")
        if fault.failed:
            return


async def _broken(scene: Scene, step: Step, began: float) -> Fault:
    before = await scene.well()
    databases = await scene.stage.machines("database")
    standby = next(d.machine.region for d in databases if d.machine.region != before.region)
    region = before.region if step.act in {Act.KILL, Act.CUT} else standby
    told = await _done(scene, step, before, region)
    after = await scene.well()
    what = ", ".join(f"{name} {value}" for name, value in told.items())
    is_moved = moved(step.act, before, after)
    if step.act.moves_primary:
        what = "; ".join(filter(None, (f"{before} -> {after}", what)))
    seen = is_moved if step.act.moves_primary else held(step, told)
    return Fault(step.act, region, began, time.monotonic(), seen, what, is_moved)


async def _done(scene: Scene, step: Step, before: Place, region: str) -> Mapping[str, Any]:
    match step.act:
        case Act.BURSTS:
            return await scene.inside(region, "bursts", step.pauses)
        case Act.DELAY:
            return await scene.inside(region, "delay", step.seconds)
        case Act.SWITCHOVER:
            await scene.stage.switch_over(region)
            return {}
        case Act.KILL:
            told = await scene.inside(region, "kill", None)
            await scene.until_later(before)
            return told
        case Act.CUT:
            return await _cut(scene, step, before)
        case _:
            assert_never(step.act)


async def _cut(scene: Scene, step: Step, before: Place) -> Mapping[str, Any]:
    began = time.monotonic()
    async with scene.stage.alone(before.region):
        await scene.until_later(before)
        took = time.monotonic() - began
        await asyncio.sleep(max(0.0, step.seconds - took))
    return {"promoted after": f"{took:.1f} s", "healed after": f"{time.monotonic() - began:.1f} s"}
