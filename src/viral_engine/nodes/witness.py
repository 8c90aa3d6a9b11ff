from __future__ import annotations

import asyncio
from collections.abc import Mapping

from viral_engine.cluster.etcd import EtcdGateway, EtcdStatus, Lease
from viral_engine.cluster.wire import UnreachableError
from viral_engine.errors import MisuseError
from viral_engine.nodes.binaries import Engines
from viral_engine.nodes.etcd import etcd_program
from viral_engine.nodes.machine import EtcdCluster, Machine
from viral_engine.nodes.patroni import leader_key
from viral_engine.nodes.successor import Successor
from viral_engine.nodes.supervisor import Supervisor

__all__ = ["run", "should_campaign"]

FIRST_LOOKS_EVERY_S = 0.25
LOOK_EVERY_S = 3.0
RENEWED_WITHIN_S = 4


def should_campaign(own: EtcdStatus, leader: EtcdStatus, lease: Lease | None) -> bool:
    """Tell whether this member should ask etcd's leader, which is not it, to hand over.

    A new etcd leader renews every lease in full, the lock of a dead primary's too, which puts the
    failover off. So never while a lock is running out: only when its holder has just renewed it,
    or when there is none. And only a member that is up to date, in the leader's own term.
    """
    if not leader.is_leader or own.is_leader or own.term != leader.term:
        return False
    if own.index + 100 < leader.index:
        return False
    return lease is None or lease.granted_s - lease.remaining_s <= RENEWED_WITHIN_S


async def run(environ: Mapping[str, str]) -> int:
    """Run a witness until SIGTERM or SIGINT; return 0 after a clean stop.

    It is an etcd member without data, and draws etcd's leadership to itself: were the leader in the
    region of a primary that is lost, both would be lost at once, and the failover be 3 s longer.
    It ends the lock of a primary that two sites have lost.
    Raises MisuseError for a faulty environment, BinaryMissingError, and MachineFailedError once
    etcd cannot be kept running.
    """
    machine = Machine.from_environ(environ)
    cluster = EtcdCluster.from_environ(environ)
    if cluster.member_of(machine.region) is None:
        raise MisuseError(f"VIRAL_ETCD_MEMBERS has no member in {machine.region}, the witness")
    binary, version = Engines(environ).etcd()
    async with Supervisor() as supervisor:
        supervisor.start(
            etcd_program(machine, cluster, binary=binary, version=version, environ=environ)
        )
        supervisor.attend(_campaign(machine, cluster, supervisor))
        if machine.ends_locks_early:
            supervisor.attend(Successor(machine, cluster, say=supervisor.say).run())
        return await supervisor.until_stopped()


async def _campaign(machine: Machine, cluster: EtcdCluster, supervisor: Supervisor) -> None:
    gateway = EtcdGateway(cluster.nearest_first(machine.region))
    settled = False
    while True:
        await asyncio.sleep(LOOK_EVERY_S if settled else FIRST_LOOKS_EVERY_S)
        try:
            settled = await _look(gateway, machine, cluster, supervisor) or settled
        except UnreachableError as error:
            if settled:
                supervisor.say(f"cannot see who leads etcd: {error}")


async def _look(
    gateway: EtcdGateway, machine: Machine, cluster: EtcdCluster, supervisor: Supervisor
) -> bool:
    own = await gateway.status()
    if own.leader == 0:
        return False
    if own.is_leader:
        return True
    for member in cluster.members:
        if member.region == machine.region:
            continue
        try:
            leader = await gateway.status(member)
        except UnreachableError:
            continue  # the silent one may be another than the leader
        lease = await gateway.lease_on(leader_key(machine.cluster))
        if should_campaign(own, leader, lease):
            await gateway.move_leader(member, own.member)
            supervisor.say(f"leads etcd now, in place of {member.region}")
            return True
    return True
