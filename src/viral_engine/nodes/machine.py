from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from viral_engine.nodes.environment import EnvironmentReader

__all__ = [
    "CACHE_PORT",
    "DATABASE_PORT",
    "ETCD_ALONE_PORT",
    "ETCD_CLIENT_PORT",
    "ETCD_PEER_PORT",
    "PATRONI_PORT",
    "CacheSettings",
    "DatabaseSettings",
    "EtcdCluster",
    "EtcdMember",
    "Machine",
    "netloc",
]

DATABASE_PORT = 5432
PATRONI_PORT = 8008
ETCD_CLIENT_PORT = 2379
ETCD_PEER_PORT = 2380
ETCD_ALONE_PORT = 2381
CACHE_PORT = 6379

DEFAULT_DATA = "/data"
DEFAULT_DATABASE = "viral"
DEFAULT_CACHE_MEMORY = "64mb"

# Right for round trips up to about 250 ms: a heartbeat travels one way, and etcd waits one to two
# election timeouts, which is four round trips at the least.
DEFAULT_HEARTBEAT_MS = 100
DEFAULT_ELECTION_MS = 1000

_REBUILT = re.compile(r"([a-z0-9_-]+)=([0-9a-fA-F.:]+)/([A-Za-z0-9]+)")
_SWITCH = re.compile(r"on|off")
_MEMORY = re.compile(r"[1-9][0-9]*(kb|mb|gb)?", re.IGNORECASE)


def netloc(address: str, port: int) -> str:
    """Return ``address:port`` as it is written in a URL, with brackets around an IPv6 address."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where this process runs, as the platform says it in the environment."""

    region: str
    machine_id: str
    private_ip: str
    primary_region: str
    data: Path
    cluster: str
    ends_locks_early: bool = True
    """Whether it revokes the lock of a primary that two sites have lost (VIRAL_FAST_FAILOVER)."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Machine:
        """Read FLY_*, PRIMARY_REGION and VIRAL_*; raise MisuseError that lists every fault."""
        read = EnvironmentReader(environ)
        machine = cls(
            region=read.name("FLY_REGION"),
            machine_id=read.text("FLY_MACHINE_ID"),
            private_ip=read.address("FLY_PRIVATE_IP"),
            primary_region=read.name("PRIMARY_REGION"),
            data=Path(read.text("VIRAL_DATA", DEFAULT_DATA)).absolute(),
            cluster=read.name("VIRAL_CLUSTER"),
            ends_locks_early=read.matching("VIRAL_FAST_FAILOVER", _SWITCH, "on or off", "on")
            == "on",
        )
        read.check()
        return machine

    @property
    def is_in_primary_region(self) -> bool:
        """Tell whether this machine may create the database where there is none yet."""
        return self.region == self.primary_region

    @property
    def patroni_url(self) -> str:
        """Where Patroni of this machine answers."""
        return f"http://{netloc(self.private_ip, PATRONI_PORT)}"


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """What the database's roles sign in with, and the name of the application's database."""

    superuser_password: str = field(repr=False)
    replication_password: str = field(repr=False)
    app_password: str = field(repr=False)
    database: str = DEFAULT_DATABASE
    parameters: Mapping[str, str] = field(default_factory=dict)
    """PostgreSQL settings of the deployment's own, on top of the shipped profile."""
    keeps_primacy: bool = True
    """Whether the machine fences its primary; off only for a drill that shows what then breaks."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> DatabaseSettings:
        """Read VIRAL_*_PASSWORD, VIRAL_DATABASE* and VIRAL_PRIMACY.

        Raises MisuseError that lists every fault.
        """
        read = EnvironmentReader(environ)
        settings = cls(
            superuser_password=read.text("VIRAL_SUPERUSER_PASSWORD"),
            replication_password=read.text("VIRAL_REPLICATION_PASSWORD"),
            app_password=read.text("VIRAL_APP_PASSWORD"),
            database=read.name("VIRAL_DATABASE", DEFAULT_DATABASE),
            parameters=read.settings("VIRAL_DATABASE_PARAMETERS"),
            keeps_primacy=read.matching("VIRAL_PRIMACY", _SWITCH, "on or off", "on") == "on",
        )
        read.check()
        return settings


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """The password of the cache, and the memory (such as 64mb) above which it forgets."""

    password: str = field(repr=False)
    max_memory: str = DEFAULT_CACHE_MEMORY

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> CacheSettings:
        """Read VIRAL_CACHE_*; raise MisuseError that lists every fault."""
        read = EnvironmentReader(environ)
        settings = cls(
            password=read.text("VIRAL_CACHE_PASSWORD"),
            max_memory=read.matching(
                "VIRAL_CACHE_MAXMEMORY", _MEMORY, "a size such as 64mb", DEFAULT_CACHE_MEMORY
            ),
        )
        read.check()
        return settings


@dataclass(frozen=True, slots=True)
class EtcdMember:
    """One voice of the vote on who is primary; its name is its region."""

    region: str
    address: str

    @property
    def client_url(self) -> str:
        """Where clients reach it."""
        return f"http://{netloc(self.address, ETCD_CLIENT_PORT)}"

    @property
    def peer_url(self) -> str:
        """Where the other members reach it."""
        return f"http://{netloc(self.address, ETCD_PEER_PORT)}"


@dataclass(frozen=True, slots=True)
class EtcdCluster:
    """All voices, and how soon they miss their leader (milliseconds).

    ``survivor`` is the member from which an operator had the cluster rebuilt, the last time that
    its majority was lost for good, and ``generation`` numbers that time.
    """

    members: tuple[EtcdMember, ...]
    heartbeat_ms: int = DEFAULT_HEARTBEAT_MS
    election_ms: int = DEFAULT_ELECTION_MS
    survivor: EtcdMember | None = None
    generation: str = ""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> EtcdCluster:
        """Read VIRAL_ETCD_*; raise MisuseError that lists every fault."""
        read = EnvironmentReader(environ)
        pairs = read.addresses_by_region("VIRAL_ETCD_MEMBERS")
        members = tuple(EtcdMember(region, address) for region, address in pairs)
        survivor, generation = _rebuilt(read)
        if survivor is not None and survivor.region not in {one.region for one in members}:
            # The only voice was in the region that was lost: from then on it is here.
            members = (survivor,)
        cluster = cls(
            members=members,
            survivor=survivor,
            generation=generation,
            heartbeat_ms=read.milliseconds("VIRAL_ETCD_HEARTBEAT_MS", DEFAULT_HEARTBEAT_MS),
            election_ms=read.milliseconds("VIRAL_ETCD_ELECTION_MS", DEFAULT_ELECTION_MS),
        )
        if cluster.election_ms < 5 * cluster.heartbeat_ms:
            read.fault("VIRAL_ETCD_ELECTION_MS is under 5 x VIRAL_ETCD_HEARTBEAT_MS: etcd refuses")
        read.check()
        return cluster

    def member_of(self, region: str) -> EtcdMember | None:
        """Return the member in a region, or None where that region has no voice."""
        return next((member for member in self.members if member.region == region), None)

    def nearest_first(self, region: str) -> tuple[EtcdMember, ...]:
        """Return all members, the region's own before the others."""
        return tuple(sorted(self.members, key=lambda member: member.region != region))


def _rebuilt(read: EnvironmentReader) -> tuple[EtcdMember | None, str]:
    """Read VIRAL_ETCD_REBUILD, as in ``lhr=10.10.2.10/01KAR2V7Y6``, which may be unset."""
    text = read.text("VIRAL_ETCD_REBUILD", "none")
    if text == "none":
        return None, ""
    match = _REBUILT.fullmatch(text)
    if match is None:
        read.fault(f"VIRAL_ETCD_REBUILD is {text!r}, expected region=address/generation")
        return None, ""
    return EtcdMember(match[1], match[2]), match[3]
