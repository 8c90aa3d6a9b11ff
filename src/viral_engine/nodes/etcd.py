from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from viral_engine.nodes.binaries import Version
from viral_engine.nodes.etcd_rebuild import RebuildTask
from viral_engine.nodes.machine import (
    ETCD_ALONE_PORT,
    ETCD_CLIENT_PORT,
    ETCD_PEER_PORT,
    EtcdCluster,
    EtcdMember,
    Machine,
    netloc,
)
from viral_engine.nodes.supervisor import Program

__all__ = ["etcd_program"]

# The first release in which checks are switched by --feature-gates; the old flag went later.
FEATURE_GATES: Version = (3, 6)
STOP_LIMIT = timedelta(seconds=5)
QUOTA_BYTES = 512 * 1024 * 1024

_LOST_FOLDER = "has already been bootstrapped"
_LOST_FOLDER_REMEDY = (
    "etcd: the other members know this one, but its folder is empty. A member must not come back "
    "without what it voted. Bring its volume back, or remove and add the member with etcdctl."
)


def etcd_program(
    machine: Machine,
    cluster: EtcdCluster,
    *,
    binary: Path,
    version: Version,
    environ: Mapping[str, str],
) -> Program:
    """Return the member of this machine's region as a program to supervise.

    A member whose folder is empty always joins as part of a new cluster: the members are fixed, so
    etcd itself refuses where that cluster exists already; only one that an operator had rebuilt is
    joined otherwise. fsync stays on.
    """
    member = cluster.member_of(machine.region)
    assert member is not None, "only a machine in a voting region runs etcd"
    everyone = ",".join(f"{one.region}={one.peer_url}" for one in cluster.members)
    client = f"http://{netloc(machine.private_ip, ETCD_CLIENT_PORT)}"
    peer = f"http://{netloc(machine.private_ip, ETCD_PEER_PORT)}"
    options = {
        "name": member.region,
        "data-dir": str(machine.data / "etcd"),
        "listen-client-urls": client,
        "advertise-client-urls": member.client_url,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": member.peer_url,
        "initial-cluster": everyone,
        "initial-cluster-state": "new",
        "initial-cluster-token": machine.cluster,
        "heartbeat-interval": str(cluster.heartbeat_ms),
        "election-timeout": str(cluster.election_ms),
        "quota-backend-bytes": str(QUOTA_BYTES),
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "5m",
        "snapshot-count": "10000",
        "log-level": "warn",
    }
    if version >= FEATURE_GATES:
        options["feature-gates"] = "InitialCorruptCheck=true"
    else:
        options["experimental-initial-corrupt-check"] = "true"
    command = (str(binary), *(f"--{key}={value}" for key, value in options.items()))
    return Program(
        name="etcd",
        command=_rebuilding(command, machine, cluster, member),
        environ={key: value for key, value in environ.items() if not key.startswith("ETCD_")},
        stop_limit=STOP_LIMIT,
        hopeless={_LOST_FOLDER: _LOST_FOLDER_REMEDY},
    )


def _rebuilding(
    command: tuple[str, ...], machine: Machine, cluster: EtcdCluster, member: EtcdMember
) -> tuple[str, ...]:
    """Return the command, behind what a member of a rebuilt cluster has to do before it."""
    survivor = cluster.survivor
    if survivor is None:
        return command
    task = RebuildTask(
        command=command,
        folder=str(machine.data / "etcd"),
        generation=cluster.generation,
        name=member.region,
        peer_url=member.peer_url,
        survivor=None if survivor.region == member.region else survivor.client_url,
        alone=f"http://{netloc(machine.private_ip, ETCD_ALONE_PORT)}",
    )
    return (sys.executable, "-m", "viral_engine.nodes.etcd_rebuild", task.text())
