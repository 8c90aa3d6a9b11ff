"""Does what a story says to a deployment, undoes it, and has every fault seen by a second look."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from viral_engine.errors import PlatformError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.extension import GlobeExtension
from viral_engine.operations.change_duty import change_duty
from viral_engine.operations.drills.cast import Cast
from viral_engine.operations.drills.story import Act
from viral_engine.operations.drills.witness import PARTS, Seen, Witness, dropped, lost, seen
from viral_engine.operations.duty import Act as Duty
from viral_engine.operations.duty import plan_duty
from viral_engine.operations.fail_over import fail_over, plan_failover
from viral_engine.operations.formation import observe_formation
from viral_engine.operations.observe import Found
from viral_engine.operations.operator_lock import Operator, operating
from viral_engine.operations.progress import Progress

__all__ = ["Crew"]

ASKED_WITHIN = timedelta(seconds=15)
LOCKER = "viral_engine.operations.drills.locker"
OF_PART = {"valkey": "cache"}
"""In which machine a part is, where that is not the database's."""
SLOWER_AT_LEAST = 0.8


@dataclass(slots=True)
class Crew:
    """Holds a deployment, who plays what in it, and what was seen of each fault in ``seen``."""

    client: FlyClient
    cast: Cast
    machines: Sequence[Found]
    mark: Callable[[str], int]
    who: Operator
    progress: Progress
    seen: list[Seen] = field(default_factory=list)
    _globe: GlobeExtension = field(init=False)
    _witness: Witness = field(init=False)

    def __post_init__(self) -> None:
        self._globe = GlobeExtension(self.client)
        self._witness = Witness(self.client)

    @asynccontextmanager
    async def doing(self, act: Act) -> AsyncIterator[None]:
        """Do an act, hold it for the length of the block, and undo it however that ends."""
        held = {
            "cut": self._links, "one-way": self._links, "blackout": self._blackout,
            "flap": self._flap, "delay": self._slow, "loss": self._lossy, "outage": self._outage,
            "pause": self._paused, "hang": self._hung, "lock": self._locked,
            "stop": self._out_of_duty,
        }.get(act.do, self._at_once)  # fmt: skip
        async with held(act):
            yield

    @asynccontextmanager
    async def _links(self, act: Act) -> AsyncIterator[None]:
        pairs, both = self.cast.pairs(act.places), act.do == "cut"
        fault = f"{act.do} {', '.join((' - ' if both else '>').join(pair) for pair in pairs)}"
        before = await self._witness.packets()
        async with AsyncExitStack() as stack:
            for pair in pairs:
                await stack.enter_async_context(self._globe.fault(act.do, regions=pair))
            self.mark(fault)
            yield
            counts = dropped(before, await self._witness.packets(), pairs)
            back = dropped(before, await self._witness.packets(), [(b, a) for a, b in pairs])
            if both:
                holds = all(counts[f"{a}>{b}"] or back[f"{b}>{a}"] for a, b in pairs)
            else:
                holds = all(counts.values()) and not any(back.values())
            self._saw(fault, "the network's counters", f"dropped {counts | back}", holds=holds)
        self.mark(f"healed: {fault}")

    @asynccontextmanager
    async def _blackout(self, act: Act) -> AsyncIterator[None]:
        region = self._region(act)
        fault = f"blackout of {region}"
        before = await self._witness.packets()
        async with self._globe.fault("blackout", regions=(region,)):
            self.mark(fault)
            yield
            others = [other for other in self.cast.regions if other != region]
            after = await self._witness.packets()
            counts = dropped(before, after, [(region, other) for other in others])
            counts |= dropped(before, after, [(f"users:{region}", region)])
            self._saw(
                fault, "the network's counters", f"dropped {counts}", holds=any(counts.values())
            )
        self.mark(f"healed: {fault}")

    @asynccontextmanager
    async def _flap(self, act: Act) -> AsyncIterator[None]:
        (pair,) = self.cast.pairs(act.places)
        fault = f"flap {' - '.join(pair)}"
        before = await self._witness.packets()
        cuts = 0

        async def flap() -> None:
            nonlocal cuts
            while True:
                async with self._globe.fault("cut", regions=pair):
                    cuts += 1
                    await asyncio.sleep(act.amount)
                await asyncio.sleep(act.amount)

        self.mark(fault)
        flapping = asyncio.create_task(flap())
        try:
            yield
        finally:
            flapping.cancel()
            await asyncio.gather(flapping, return_exceptions=True)
        counts = dropped(before, await self._witness.packets(), [pair, pair[::-1]])
        self._saw(fault, "the network's counters", f"{cuts} cuts, dropped {counts}",
                  holds=cuts > 1 and any(counts.values()))  # fmt: skip
        self.mark(f"healed: {fault}")

    @asynccontextmanager
    async def _slow(self, act: Act) -> AsyncIterator[None]:
        fault = f"every way takes {act.amount:g} times as long"
        (origin,) = self._of("database", self.cast.primary)
        (target,) = self._of("database", self.cast.region("replica"))
        before = await self._witness.reach(origin, target)
        async with self._globe.fault("delay", amount=act.amount):
            self.mark(fault)
            yield
            after = await self._witness.reach(origin, target)
            holds = bool(before and after and after > SLOWER_AT_LEAST * act.amount * before)
            self._saw(
                fault, "a connection's time", f"{before} ms before, {after} ms then", holds=holds
            )
        self.mark("ways are as long as they were")

    @asynccontextmanager
    async def _lossy(self, act: Act) -> AsyncIterator[None]:
        fault = f"{100 * act.amount:g} % of packets are lost"
        before = await self._witness.packets()
        async with self._globe.fault("loss", amount=act.amount):
            self.mark(fault)
            yield
            count = lost(before, await self._witness.packets())
            self._saw(fault, "the network's counters", f"{count} lost", holds=count > 0)
        self.mark("packets arrive again")

    @asynccontextmanager
    async def _outage(self, act: Act) -> AsyncIterator[None]:
        region = self._region(act)
        fault = f"outage of {region}"
        there = [one for one in self.machines if one.machine.region == region]
        since = time.time_ns() // 1_000_000
        async with self._globe.fault("outage", regions=(region,)):
            self.mark(fault)
            self.seen.append(await self._witness.exited(fault, there, since))
            yield
        self.mark(f"over: {fault}")

    @asynccontextmanager
    async def _paused(self, act: Act) -> AsyncIterator[None]:
        region = self._region(act)
        fault = f"all of {region} is frozen"
        there = [one for one in self.machines if one.machine.region == region]
        ids = [one.machine.id for one in there]
        if self._of("app", region):
            ids.append(f"edge-{region}")
        async with AsyncExitStack() as stack:
            for machine in ids:
                await stack.enter_async_context(self._globe.fault("pause", machine=machine))
            self.mark(fault)
            yield
            for one in self._of("database", region):
                self.seen.append(await self._witness.stopped(fault, one, "patroni"))
        self.mark(f"all of {region} goes on")

    @asynccontextmanager
    async def _hung(self, act: Act) -> AsyncIterator[None]:
        region = self._region(act)
        fault = f"{act.what} in {region} hangs"
        (found,) = self._of(OF_PART.get(act.what, "database"), region)
        if not await self._signal(found, act.what, "STOP"):
            raise PlatformError(f"No {act.what} is there in {region} that could hang.")
        try:
            self.mark(fault)
            yield
            self.seen.append(await self._witness.stopped(fault, found, act.what))
        finally:
            await self._signal(found, act.what, "CONT")
        self.mark(f"{act.what} in {region} goes on")

    @asynccontextmanager
    async def _locked(self, act: Act) -> AsyncIterator[None]:
        region = self._region(act)
        fault = f"a lock is held in {region} that writes wait for"
        (found,) = self._of("database", region)
        command = ["python", "-m", LOCKER, str(act.lasts)]
        within = timedelta(seconds=act.lasts) + ASKED_WITHIN
        self.mark(fault)
        holding = asyncio.create_task(
            self.client.exec(found.app, found.machine.id, command, timeout=within)
        )
        try:
            yield
        finally:
            done = await holding
        waited = done.stdout.strip() or "0"
        self._saw(fault, "the database's locks", f"{waited} waited {done.stderr[-200:]}",
                  holds=waited.isdigit() and int(waited) > 0)  # fmt: skip
        self.mark("the lock is given up")

    @asynccontextmanager
    async def _out_of_duty(self, act: Act) -> AsyncIterator[None]:
        region = self._region(act)
        fault = f"the machines of {region} are stopped"
        there = [one for one in self.machines if one.machine.region == region]
        since = time.time_ns() // 1_000_000
        self.mark(f"viral stop {region} --force")
        try:
            await self._duty(Duty.STOP, region)
            self.mark(fault)
            self.seen.append(await self._witness.exited(fault, there, since))
            yield
        finally:
            await self._duty(Duty.START, region)
        self.mark(f"the machines of {region} run again")

    @asynccontextmanager
    async def _at_once(self, act: Act) -> AsyncIterator[None]:
        """What is done and not undone; it is looked for before the story goes on."""
        region = self._region(act)
        match act.do:
            case "kill" if act.what == "edge":
                await self._kill_edge(region)
            case "kill":
                await self._kill(act.what, region)
            case "kill-process":
                await self._kill_part(act.what, region)
            case "switchover":
                await self._switch_over(region)
        yield

    async def _kill_edge(self, region: str) -> None:
        fault = f"the edge of {region} is killed"
        since = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        await self._globe.add_fault("kill", machine=f"edge-{region}")
        self.mark(fault)
        self.seen.append(await self._witness.edge_ended(fault, region, since))

    async def _kill(self, group: str, region: str) -> None:
        fault = f"every {group} machine of {region} is killed"
        there, since = self._of(group, region), time.time_ns() // 1_000_000
        await asyncio.gather(
            *(self._globe.add_fault("kill", machine=one.machine.id) for one in there)
        )
        self.mark(fault)
        self.seen.append(await self._witness.exited(fault, there, since))

    async def _kill_part(self, part: str, region: str) -> None:
        fault = f"{part} in {region} is killed"
        role = OF_PART.get(part) or ("database" if self._of("database", region) else "witness")
        (found,) = self._of(role, region)
        killed = await self._signal(found, part, "KILL")
        self.mark(fault)
        self.seen.append(await self._witness.gone(fault, found, part, killed))

    async def _switch_over(self, region: str) -> None:
        formation = await observe_formation(self.client)
        plan = plan_failover(formation, region)
        self.mark(f"viral failover --to {region}")
        async with operating(self.client, formation, self.who, self.progress):
            outcome = await fail_over(self.client, formation, plan, self.progress)
        self.mark(outcome.sentence())
        after = await observe_formation(self.client)
        was, now = formation.at(region).timeline or 0, after.at(region).timeline or 0
        self._saw(f"switchover to {region}", "its own database", f"timeline {was} before, {now} then",
                  holds=now > was and after.at(region).role == "primary")  # fmt: skip

    async def _duty(self, duty: Duty, region: str) -> None:
        formation = await observe_formation(self.client)
        plan = plan_duty(formation, duty, region, force=True)
        await change_duty(self.client, formation, plan, self.progress)

    async def _signal(self, found: Found, part: str, word: str) -> list[int]:
        command = ["python", "-m", PARTS, part, word, found.machine.id]
        done = await self.client.exec(found.app, found.machine.id, command, timeout=ASKED_WITHIN)
        if done.exit_code:
            raise PlatformError(
                f"No SIG{word} could be sent to {part}: {done.stderr.strip()[-300:]}"
            )
        return [int(one["pid"]) for one in json.loads(done.stdout)]

    def _region(self, act: Act) -> str:
        return self.cast.region(act.places[0])

    def _of(self, role: str, region: str) -> list[Found]:
        return [
            one
            for one in self.machines
            if one.machine.role == role and one.machine.region == region
        ]

    def _saw(self, fault: str, by: str, saw: str, *, holds: bool) -> None:
        self.seen.append(seen(fault, by, saw, holds=holds))
