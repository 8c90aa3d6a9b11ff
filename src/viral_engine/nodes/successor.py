"""Ends a lost primary's lock early, from the witness's side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from viral_engine.clock import BOOT_CLOCK, BootClock
from viral_engine.cluster.etcd import EtcdGateway, EtcdSnapshot
from viral_engine.cluster.primacy import Sight, primacy_key, sight_of
from viral_engine.cluster.succession import (
    OVERDUE_S,
    Evidence,
    Move,
    Step,
    next_step,
    standbys_of,
    why_not_allowed,
)
from viral_engine.cluster.wire import UnreachableError, call
from viral_engine.nodes.machine import PATRONI_PORT, EtcdCluster, EtcdMember, Machine, netloc
from viral_engine.nodes.patroni import config_key, leader_key, sync_key

__all__ = ["Successor"]

TICK_S = 0.4
SUSPICIOUS_TICK_S = 0.2
BYSTANDER_TICK_S = 2.0
"""Of one that is itself a side, and decides nothing before the roles change."""
LOOK_LIMIT = timedelta(seconds=0.8)
STORE_LIMIT = timedelta(seconds=1.5)
AGAIN_AFTER_S = 20.0
"""Patroni's own patience: a second loss within it is left to that, so that nothing flaps."""


class Successor:
    """Watches who holds primacy and, once two sites agree that it is lost, revokes its lock.

    It reads the store 2.5 times a second and asks machines only when a renewal is overdue. What it
    refuses, and why, is said once.
    """

    def __init__(
        self,
        machine: Machine,
        cluster: EtcdCluster,
        *,
        say: Callable[[str], None],
        clock: BootClock = BOOT_CLOCK,
    ) -> None:
        self._here = machine.region
        self._cluster = cluster
        self._etcd = EtcdGateway(cluster.nearest_first(machine.region), timeout=STORE_LIMIT)
        name = machine.cluster
        self._primacy, self._leader = primacy_key(name), leader_key(name)
        self._sync, self._config = sync_key(name), config_key(name)
        self._say = say
        self._clock = clock
        self._sight: Sight | None = None
        self._silent_looks = 0
        self._streams: tuple[bool, ...] = ()
        self._said = ""
        self._not_before = 0.0

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                pause = await self._look()
            except UnreachableError:
                # Without a majority nothing is known, and nothing could be done.
                self._silent_looks, self._streams, pause = 0, (), TICK_S
            await asyncio.sleep(pause)

    async def _look(self) -> float:
        """Look once, act on it, and return how soon to look again."""
        found = await self._read()
        seen = self._evidence(found)
        if not seen.is_third:
            return BYSTANDER_TICK_S
        if seen.unrenewed_s < OVERDUE_S:
            self._silent_looks, self._streams, self._said = 0, (), ""
            return TICK_S
        await self._ask_around(seen)
        # What was asked took time: a renewal in it counts.
        found = await self._read()
        seen = self._evidence(found)
        await self._act(next_step(seen), seen, found)
        return SUSPICIOUS_TICK_S

    async def _read(self) -> EtcdSnapshot:
        found = await self._etcd.read(self._primacy, self._leader, self._sync, self._config)
        self._sight = sight_of(
            self._sight, found, key=self._primacy, leader_key=self._leader,
            now=self._clock.seconds(),
        )  # fmt: skip
        return found

    def _evidence(self, found: EtcdSnapshot) -> Evidence:
        sight = self._sight
        assert sight is not None  # it was made of this very answer, or of a later one
        return Evidence(
            here=self._here,
            leader=sight.leader,
            holder=None if sight.claim is None else sight.claim.region,
            unrenewed_s=self._clock.seconds() - sight.since,
            synchronous=standbys_of(_text(found, self._sync), leader=sight.leader),
            not_allowed=why_not_allowed(_text(found, self._config)),
            silent_looks=self._silent_looks,
            streams=self._streams,
        )

    async def _ask_around(self, seen: Evidence) -> None:
        leader = self._cluster.member_of(seen.leader or "")
        standbys = [one for one in map(self._cluster.member_of, seen.synchronous) if one]
        answers, *streams = await asyncio.gather(
            _answers(leader), *(_streams(one) for one in standbys)
        )
        self._silent_looks = 0 if answers else self._silent_looks + 1
        self._streams = tuple(one for one in streams if one is not None)

    async def _act(self, step: Step, seen: Evidence, found: EtcdSnapshot) -> None:
        now = self._clock.seconds()
        if step.move is Move.REVOKE and now < self._not_before:
            step = Step(Move.REFUSE, "it was done a moment ago; Patroni's own patience counts")
        lock = found.pairs.get(self._leader)
        if step.move is Move.REFUSE:
            self._say_once(f"{seen.leader} seems lost; its lock is left alone: {step.reason}")
        elif step.move is Move.REVOKE and lock is not None and lock.lease:
            await self._etcd.revoke(lock.lease)
            self._not_before = now + AGAIN_AFTER_S
            self._say_once(
                f"{seen.leader} is lost: it renewed nothing for {seen.unrenewed_s:.1f} s, answers"
                f" nobody here and streams to no standby; its lock is revoked"
            )

    def _say_once(self, sentence: str) -> None:
        kind = sentence.partition(":")[0]
        if kind != self._said:
            self._said = kind
            self._say(sentence)


async def _answers(member: EtcdMember | None) -> bool:
    """Tell whether anything in a member's machine answers, by whichever of two ways."""
    if member is None:
        return False
    ways = (
        f"http://{netloc(member.address, PATRONI_PORT)}/liveness",
        f"{member.client_url}/version",
    )
    return any(await asyncio.gather(*map(_is_heard, ways)))


async def _is_heard(url: str) -> bool:
    try:
        await call(url, timeout=LOOK_LIMIT)
    except UnreachableError:
        return False
    return True


async def _streams(member: EtcdMember) -> bool | None:
    """Tell whether a standby receives its primary's log, None where it does not answer."""
    try:
        reply = await call(
            f"http://{netloc(member.address, PATRONI_PORT)}/patroni", timeout=LOOK_LIMIT
        )
    except UnreachableError:
        return None
    return reply.field("replication_state") == "streaming"


def _text(found: EtcdSnapshot, key: str) -> str | None:
    pair = found.pairs.get(key)
    return None if pair is None else pair.value
