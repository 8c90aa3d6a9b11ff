from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from viral_engine.nodes.binaries import Version
from viral_engine.nodes.machine import (
    ETCD_CLIENT_PORT,
    ETCD_PEER_PORT,
    EtcdCluster,
    EtcdMember,
    Machine,
    netloc,
)
from viral_engine.nodes.supervisor import Program
from viral_engine.nodes.wire import Reply, UnreachableError, call

__all__ = ["EtcdGateway", "EtcdStatus", "Lease", "etcd_program"]

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


@dataclass(frozen=True, slots=True)
class EtcdStatus:
    """What one member says of itself; leader 0 means that it knows none."""

    member: int
    leader: int
    term: int
    index: int
    version: str

    @property
    def is_leader(self) -> bool:
        """Tell whether it leads, by its own word."""
        return self.member != 0 and self.member == self.leader


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease's promise and what is left of it, in seconds."""

    granted_s: int
    remaining_s: int


class EtcdGateway:
    """Speaks to etcd through the JSON gateway of its members, the nearest first.

    Every method raises UnreachableError where no member that was asked answers.
    """

    def __init__(self, members: tuple[EtcdMember, ...]) -> None:
        self._members = members

    async def status(self, member: EtcdMember | None = None) -> EtcdStatus:
        """Ask one member how it stands, by default the nearest."""
        member = member or self._members[0]
        reply = await _post(member, "/v3/maintenance/status", {})
        header = reply.field("header")
        own = header.get("member_id") if isinstance(header, dict) else None
        return EtcdStatus(
            member=_number(own),
            leader=_number(reply.field("leader")),
            term=_number(reply.field("raftTerm")),
            index=_number(reply.field("raftAppliedIndex")),
            version=str(reply.field("version")),
        )

    async def put_if_absent(self, key: str, value: str) -> None:
        """Write a key that does not exist; leave one that does."""
        encoded = _encode(key)
        compare = {"key": encoded, "target": "CREATE", "create_revision": "0"}
        put = {"request_put": {"key": encoded, "value": _encode(value)}}
        await self._ask("/v3/kv/txn", {"compare": [compare], "success": [put]})

    async def value_of(self, key: str) -> str | None:
        """Return what a key holds, None where there is no such key."""
        pair = await self._pair(key)
        return None if pair is None else base64.b64decode(str(pair.get("value", ""))).decode()

    async def lease_on(self, key: str) -> Lease | None:
        """Return the lease that a key hangs on; None without the key, its lease or its time."""
        pair = await self._pair(key)
        lease = 0 if pair is None else _number(pair.get("lease"))
        if lease == 0:
            return None
        reply = await self._ask("/v3/lease/timetolive", {"ID": str(lease)})
        remaining = _number(reply.field("TTL"))
        return Lease(_number(reply.field("grantedTTL")), remaining) if remaining > 0 else None

    async def _pair(self, key: str) -> Mapping[str, object] | None:
        pairs = (await self._ask("/v3/kv/range", {"key": _encode(key)})).field("kvs")
        return pairs[0] if isinstance(pairs, list) and pairs else None

    async def move_leader(self, leader: EtcdMember, to: int) -> None:
        """Have ``leader``, which must lead, hand over to the member with the id ``to``."""
        await _post(leader, "/v3/maintenance/transfer-leadership", {"targetID": str(to)})

    async def _ask(self, path: str, body: Mapping[str, object]) -> Reply:
        failures = []
        for member in self._members:
            try:
                return await _post(member, path, body)
            except UnreachableError as error:
                failures.append(str(error))
        raise UnreachableError("; ".join(failures))


async def _post(member: EtcdMember, path: str, body: Mapping[str, object]) -> Reply:
    reply = await call(f"{member.client_url}{path}", body)
    if reply.status != 200:
        raise UnreachableError(f"{member.region}: {reply.field('message') or reply.body}")
    return reply


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _number(value: object) -> int:
    # The gateway writes 64-bit numbers as strings and leaves zeros out.
    return int(value) if isinstance(value, (str, int)) else 0
