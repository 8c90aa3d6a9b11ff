from __future__ import annotations

import json
from collections.abc import Mapping

from viral_engine.cluster.etcd import EtcdGateway
from viral_engine.cluster.wire import UnreachableError
from viral_engine.errors import DatabaseError
from viral_engine.nodes.machine import EtcdCluster, Machine
from viral_engine.nodes.patroni import leader_key

__all__ = ["promote"]


async def promote(environ: Mapping[str, str]) -> dict[str, object]:
    """Name this machine's database as the next primary and take the lock from whoever has it.

    Patroni promotes it once primacy has ended elsewhere. It is named because Patroni by itself
    promotes no other than the synchronous standby; a healthy primary would take its lock back, so
    that has to be stopped before. The answer names the ``candidate`` and whose lock was ``revoked``.
    Raises DatabaseError where etcd has no majority.
    """
    machine, cluster = Machine.from_environ(environ), EtcdCluster.from_environ(environ)
    gateway = EtcdGateway(cluster.nearest_first(machine.region))
    wanted, held = f"/service/{machine.cluster}/failover", leader_key(machine.cluster)
    try:
        found = (await gateway.read(wanted, held)).pairs
        lock, before = found.get(held), found.get(wanted)
        if lock is not None and lock.value == machine.region:
            return {"candidate": machine.region, "revoked": None}
        note = json.dumps({"member": machine.region})
        await gateway.replace(wanted, note, revision=before.revision if before else 0)
        if lock is not None and lock.lease:
            await gateway.revoke(lock.lease)
    except UnreachableError as error:
        raise DatabaseError(f"etcd has no majority: {error}") from error
    return {"candidate": machine.region, "revoked": None if lock is None else lock.value}
