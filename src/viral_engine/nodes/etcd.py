from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from viral_engine.nodes.binaries import Version
from viral_engine.nodes.machine import (
    ETCD_CLIENT_PORT,
    ETCD_PEER_PORT,
    EtcdCluster,
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
    etcd itself refuses where that cluster exists already. fsync stays on.
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
    return Program(
        name="etcd",
        command=(str(binary), *(f"--{key}={value}" for key, value in options.items())),
        environ={key: value for key, value in environ.items() if not key.startswith("ETCD_")},
        stop_limit=STOP_LIMIT,
        hopeless={_LOST_FOLDER: _LOST_FOLDER_REMEDY},
    )
