from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta
from math import inf
from pathlib import Path

from viral_engine.clock import BOOT_CLOCK, BootClock
from viral_engine.cluster.etcd import EtcdGateway, EtcdSnapshot
from viral_engine.cluster.primacy import (
    RENEW_EVERY_S,
    Claim,
    Engine,
    Move,
    Sight,
    Situation,
    is_expired,
    next_move,
    primacy_key,
    sight_of,
)
from viral_engine.cluster.wire import UnreachableError
from viral_engine.nodes.machine import EtcdCluster, Machine
from viral_engine.nodes.patroni import leader_key
from viral_engine.nodes.postgres_processes import PostgresProcesses
from viral_engine.nodes.primacy_deadline import PrimacyDeadline

__all__ = ["PrimacyKeeper", "primacy_path"]

TICK_S = 0.1
BUSY_TICK_S = 0.02
# Nobody answered by then: ask the next member as well. Four of these fit into a claim's validity,
# which an election of etcd's leader, two seconds at the most, therefore does not outlast.
HEDGE_AFTER_S = 0.5
UNDER_WAY_AT_MOST = 5
STEP_LIMIT = timedelta(seconds=1.5)
LATE_S = 1.0
# One that was frozen finds its own member of the store behind, and asks the next.
SPARED_S = 2.0
WAITED_FOR_EVERY_S = 0.2
PROMOTED_WITHIN_S = 10.0
LAST_WORD_S = 2.0


def primacy_path(machine: Machine) -> Path:
    """Return where the database reads until when it may acknowledge."""
    return machine.data / "run" / "primacy"


class PrimacyKeeper:
    """Holds the primacy key while this machine's PostgreSQL is primary, and kills it if it cannot.

    A tick every 0.1 s looks at PostgreSQL and the deadline and never waits for the network; what it
    sends to etcd is answered whenever it is. Cancelling ``run``, once PostgreSQL is down, gives the
    key back.
    """

    def __init__(
        self,
        machine: Machine,
        cluster: EtcdCluster,
        *,
        say: Callable[[str], None],
        clock: BootClock = BOOT_CLOCK,
    ) -> None:
        self._me = Claim(machine.region, machine.machine_id, secrets.token_hex(4))
        self._key, self._leader_key = primacy_key(machine.cluster), leader_key(machine.cluster)
        self._etcd = EtcdGateway(cluster.nearest_first(machine.region), timeout=STEP_LIMIT)
        self._postgres = PostgresProcesses(machine.data / "postgres")
        self._deadline = PrimacyDeadline(
            primacy_path(machine), draft=machine.data / "tmp" / "primacy"
        )
        self._say = say
        self._clock = clock
        self._engine = Engine.DOWN
        self._primary_since: float | None = None
        self._sight: Sight | None = None
        self._promoted_by = -inf
        self._attempt = 0
        self._unanswered = 0
        self._due = -inf
        self._under_way: set[asyncio.Task[None]] = set()
        self._ticked = clock.seconds()
        self._spared_until = -inf
        self._held = asyncio.Event()

    async def run(self) -> None:
        """Keep the key until cancelled."""
        try:
            while True:
                move = self._tick()
                await asyncio.sleep(BUSY_TICK_S if move is Move.KILL else TICK_S)
        finally:
            await self._leave()

    @property
    def sight(self) -> Sight | None:
        """What was last seen of the key, None before the first answer."""
        return self._sight

    def remaining(self) -> float | None:
        """Return the seconds for which this node may acknowledge, None where it does not hold."""
        at = self._deadline.at
        return None if at is None else at - self._clock.seconds()

    async def take(self) -> None:
        """Return once this node holds the key, so that its replica may be promoted; or be cancelled.

        The key is held for a promotion that begins within 10 s.
        """
        self._promoted_by = inf
        self._due = -inf
        self._tick()
        taken = False
        try:
            while not self._deadline.is_ahead(self._clock.seconds()):
                self._held.clear()
                await self._held.wait()
            taken = True
        finally:
            self._promoted_by = self._clock.seconds() + PROMOTED_WITHIN_S if taken else -inf

    def _tick(self) -> Move:
        now = self._clock.seconds()
        if now - self._ticked > LATE_S and not is_expired(self._deadline.at, self._ticked):
            # Frozen or asleep, perhaps with all of the machine: see first whether the key still is
            # ours. Nothing is acknowledged meanwhile, as the deadline has passed for all to read.
            self._spared_until = now + SPARED_S
            self._due = now
        self._ticked = now
        self._look(now)
        move = next_move(self._situation(now))
        if move is Move.KILL:
            if not self._is_spared(now):
                self._kill(now)
        elif now >= self._due and len(self._under_way) < UNDER_WAY_AT_MOST:
            self._send(move, now)
        return move

    def _is_spared(self, now: float) -> bool:
        spared = now < self._spared_until and self._engine is not Engine.LEFTOVERS
        if spared and now >= self._due:
            self._send(Move.CLAIM, now)
        return spared

    def _look(self, now: float) -> None:
        engine = self._postgres.engine()
        if engine is not self._engine:
            self._due = now
        if engine is not Engine.PRIMARY:
            self._primary_since = None
        elif self._primary_since is None:
            self._primary_since = now
        if engine in {Engine.PRIMARY, Engine.DOWN} and self._promoted_by < inf:
            self._promoted_by = -inf
        self._engine = engine

    def _situation(self, now: float) -> Situation:
        return Situation(
            me=self._me,
            engine=self._engine,
            primary_since=self._primary_since,
            sight=self._sight,
            deadline=self._deadline.at,
            promoting=now < self._promoted_by,
            now=now,
        )

    def _kill(self, now: float) -> None:
        over = is_expired(self._deadline.at, now)
        self._deadline.withdraw()
        self._postgres.kill()
        if self._engine is not Engine.LEFTOVERS:
            why = "it could not be renewed" if over else "another node takes or has it"
            self._say(f"primacy is lost, as {why}: PostgreSQL is killed")

    def _send(self, move: Move, now: float) -> None:
        etcd = self._etcd.only(self._unanswered)
        self._unanswered += 1
        self._due = now + HEDGE_AFTER_S
        task = asyncio.get_running_loop().create_task(
            self._ask(self._question(move, etcd, now), now)
        )
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _question(self, move: Move, etcd: EtcdGateway, now: float) -> Awaitable[EtcdSnapshot]:
        reading, revision = (self._leader_key,), 0 if self._sight is None else self._sight.revision
        match move:
            case Move.CLAIM:
                self._attempt += 1
                self._deadline.sends(self._attempt, now)
                text = Claim(self._me.region, self._me.machine, self._me.run, self._attempt).text()
                return etcd.replace(self._key, text, revision=revision, reading=reading)
            case Move.RELEASE:
                self._deadline.withdraw()
                return etcd.remove(self._key, revision=revision, reading=reading)
            case _:
                # A member may answer with what it knew before, without a trip to the others: what
                # it shows had been sent by now all the same, and a claim compares with the truth.
                return etcd.read(self._key, self._leader_key, at_hand=True)

    async def _ask(self, question: Awaitable[EtcdSnapshot], sent: float) -> None:
        try:
            found = await question
        except UnreachableError:
            if self._deadline.at is not None:
                self._due = min(self._due, self._clock.seconds() + TICK_S)
            return
        self._unanswered = 0
        if self._due > sent:  # else something has become urgent since
            waited_for = self._promoted_by == inf
            pause = WAITED_FOR_EVERY_S if waited_for else RENEW_EVERY_S
            self._due = sent + pause if waited_for else max(self._due, sent + pause)
        try:
            self._learn(found)
        except OSError as error:
            self._say(f"primacy cannot be written down: {error}")

    def _learn(self, found: EtcdSnapshot) -> None:
        now, before = self._clock.seconds(), self._sight
        sight = sight_of(before, found, key=self._key, leader_key=self._leader_key, now=now)
        self._sight = sight
        claim = sight.claim
        if before is not None and _holder(before) != _holder(sight):
            self._due = now
        if claim is None or claim.run != self._me.run:
            if self._deadline.at is not None:
                self._say("primacy is no longer held here")
                self._deadline.withdraw()
            return
        # Whichever answer shows it: that attempt was written, and counts from when it was sent.
        held = self._deadline.at is not None
        if self._deadline.was_written(claim.attempt, now):
            self._held.set()
            if not held:
                self._say("holds primacy")

    async def _leave(self) -> None:
        for task in tuple(self._under_way):
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        self._deadline.withdraw()
        if self._sight is None or _holder(self._sight) != self._me.run:
            return
        try:
            async with asyncio.timeout(LAST_WORD_S):
                await self._give_back()
        except TimeoutError:
            self._say("primacy could not be given back: the next one waits 5 s for it")

    async def _give_back(self) -> None:
        while self._postgres.engine() is not Engine.DOWN:
            self._postgres.kill()
            await asyncio.sleep(BUSY_TICK_S)
        while self._sight is not None and _holder(self._sight) == self._me.run:
            try:
                found = await self._etcd.remove(self._key, revision=self._sight.revision)
            except UnreachableError:
                await asyncio.sleep(TICK_S)
            else:
                self._learn(found)


def _holder(sight: Sight) -> str | None:
    return None if sight.claim is None else sight.claim.run
