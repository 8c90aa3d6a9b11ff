from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from urllib.parse import quote

from viral_engine.clock import SYSTEM_CLOCK
from viral_engine.cluster.etcd import EtcdGateway, EtcdStatus
from viral_engine.cluster.primacy import Claim, primacy_key
from viral_engine.cluster.probe import NodeProbe
from viral_engine.cluster.wire import UnreachableError, call
from viral_engine.errors import DatabaseError, MisuseError, NoPrimaryError
from viral_engine.nodes.handover import writes_held
from viral_engine.nodes.machine import (
    DATABASE_PORT,
    DatabaseSettings,
    EtcdCluster,
    EtcdMember,
    Machine,
    netloc,
)
from viral_engine.nodes.patroni import API_USER, SUPERUSER, leader_key
from viral_engine.nodes.primacy_desk import ask_desk
from viral_engine.nodes.profile import DYNAMIC_CONFIGURATION, differences

__all__ = [
    "MemberView",
    "members_of",
    "move_etcd_leader",
    "primacy",
    "revoke",
    "status",
    "switch_over",
]

SWITCHOVER_LIMIT = timedelta(seconds=60)
WRITES_END_WITHIN = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class MemberView:
    """One database node as Patroni sees it; positions as PostgreSQL spells them, lag in bytes."""

    region: str
    name: str
    role: str
    state: str
    synchronous: bool
    timeline: int | None
    position: str | None
    received: str | None
    replayed: str | None
    lag_bytes: int | None


def members_of(cluster: object) -> tuple[MemberView, ...]:
    """Read Patroni's answer to ``GET /cluster``."""
    listed = cluster.get("members") if isinstance(cluster, dict) else None
    return tuple(_member(one) for one in listed or () if isinstance(one, dict))


def _member(raw: Mapping[str, object]) -> MemberView:
    tags = raw.get("tags")
    role = str(raw.get("role"))
    primary = role == "leader"
    return MemberView(
        region=str(tags.get("region")) if isinstance(tags, dict) else str(raw.get("name")),
        name=str(raw.get("name")),
        role="primary" if primary else "replica",
        state=str(raw.get("state")),
        synchronous=role in {"sync_standby", "quorum_standby"},
        timeline=_whole(raw.get("timeline")),
        position=_text(raw.get("lsn")) if primary else None,
        received=None if primary else _text(raw.get("receive_lsn")),
        replayed=None if primary else _text(raw.get("replay_lsn")),
        lag_bytes=None if primary else _whole(raw.get("lag")),
    )


async def status(environ: Mapping[str, str]) -> dict[str, object]:
    """Return what this machine's PostgreSQL, Patroni and etcd say, ready for JSON.

    What is silent is None. ``differences`` names each setting in force that is not as asked for:
    Patroni changes what it does not like without refusing it.
    """
    machine, cluster = Machine.from_environ(environ), EtcdCluster.from_environ(environ)
    own, nodes, asked, votes = await asyncio.gather(
        _probe(machine, DatabaseSettings.from_environ(environ)),
        _ask(f"{machine.patroni_url}/cluster"),
        _ask(f"{machine.patroni_url}/config"),
        asyncio.gather(*(_vote(cluster, member) for member in cluster.members)),
    )
    members = members_of(nodes)
    leads = next((member.region for member, vote in votes if vote and vote.is_leader), None)
    return {
        "region": machine.region,
        "machine": machine.machine_id,
        "cluster": machine.cluster,
        **own,
        "primary": next((one.region for one in members if one.role == "primary"), None),
        "members": None if nodes is None else [asdict(one) for one in members],
        "paused": None if nodes is None else bool(nodes.get("pause")),
        "differences": None if asked is None else sorted(differences(DYNAMIC_CONFIGURATION, asked)),
        "etcd": {"leader": leads, "members": [_voice(*one) for one in votes]},
    }


async def _probe(machine: Machine, settings: DatabaseSettings) -> dict[str, object]:
    password = quote(settings.superuser_password, safe="")
    place = netloc(machine.private_ip, DATABASE_PORT)
    url = f"postgresql://{SUPERUSER}:{password}@{place}/postgres"
    async with NodeProbe(machine.region, url, machine=machine.machine_id) as probe:
        seen = (await probe.ask(SYSTEM_CLOCK)).answer
    if seen is None:
        return {"role": "unknown", "timeline": None, "position": None, "lag_seconds": None}
    return {
        "role": "replica" if seen.in_recovery else "primary",
        "timeline": seen.timeline,
        "position": str(seen.lsn),
        "lag_seconds": seen.lag_seconds,
    }


async def switch_over(environ: Mapping[str, str], to: str) -> dict[str, object]:
    """Make the database in region ``to`` the primary; return ``primary``, the region, and ``was``.

    Planned: writes under way end first, those that come wait, and nothing acknowledged is lost;
    ``held_seconds`` is how long they waited here. Raises NoPrimaryError
    where there is none to hand over, MisuseError for a region without a database or one that is
    the primary already, and DatabaseError where a write does not end in 5 s or with Patroni's
    reason where it refuses.
    """
    machine, settings = Machine.from_environ(environ), DatabaseSettings.from_environ(environ)
    nodes = await _ask(f"{machine.patroni_url}/cluster")
    members = members_of(nodes)
    primary = next((one for one in members if one.role == "primary"), None)
    candidate = next((one for one in members if one.region == to), None)
    if primary is None:
        raise NoPrimaryError
    if candidate is None:
        known = ", ".join(sorted(one.region for one in members))
        raise MisuseError(f"there is no database in {to}", suggestion=f"There is one in: {known}.")
    if candidate is primary:
        raise MisuseError(f"{to} is the primary already")
    async with writes_held(_host_of(nodes, primary.name), settings, within=WRITES_END_WITHIN):
        began = SYSTEM_CLOCK.monotonic()
        try:
            reply = await call(
                f"{machine.patroni_url}/switchover",
                {"leader": primary.name, "candidate": candidate.name},
                timeout=SWITCHOVER_LIMIT,
                credentials=(API_USER, settings.superuser_password),
            )
        except UnreachableError as error:
            raise DatabaseError(f"Patroni did not answer the switchover: {error}") from error
        if reply.status != 200:
            raise DatabaseError(f"Patroni refused the switchover to {to}: {reply.body}")
        held = SYSTEM_CLOCK.monotonic() - began
    return {"primary": to, "was": primary.region, "held_seconds": round(held, 2)}


def _host_of(nodes: dict[str, object] | None, name: str) -> str:
    listed = nodes.get("members") if nodes else None
    hosts = (
        [one["host"] for one in listed if one["name"] == name] if isinstance(listed, list) else []
    )
    return str(hosts[0]) if hosts else ""


async def move_etcd_leader(environ: Mapping[str, str], to: str) -> dict[str, object]:
    """Make the etcd member in region ``to`` the leader; return ``leader``, the region, and ``was``.

    Raises MisuseError for a region without a member, and DatabaseError where etcd has no leader or
    the move fails.
    """
    cluster = EtcdCluster.from_environ(environ)
    target = cluster.member_of(to)
    if target is None:
        known = ", ".join(sorted(member.region for member in cluster.members))
        raise MisuseError(f"etcd has no member in {to}", suggestion=f"It has one in: {known}.")
    votes = dict(await asyncio.gather(*(_vote(cluster, member) for member in cluster.members)))
    wanted = votes[target]
    leader = next((member for member, vote in votes.items() if vote and vote.is_leader), None)
    if wanted is None or leader is None:
        raise DatabaseError(f"etcd has no leader, or its member in {to} does not answer")
    if leader != target:
        try:
            await EtcdGateway(cluster.members).move_leader(leader, wanted.member)
        except UnreachableError as error:
            raise DatabaseError(f"etcd did not move its leader to {to}: {error}") from error
    return {"leader": to, "was": leader.region}


async def primacy(environ: Mapping[str, str]) -> dict[str, object]:
    """Return the region and machine that hold primacy, None for both while nobody does.

    ``unchanged_seconds``: since when this machine has seen no renewal, None where none watches;
    ``remaining_seconds``: None on any machine but the holder. Raises DatabaseError where this
    machine keeps no primacy and etcd has no majority.
    """
    machine, cluster = Machine.from_environ(environ), EtcdCluster.from_environ(environ)
    said = await ask_desk(machine.data / "run")
    if said is not None:
        return said
    key = primacy_key(machine.cluster)
    try:
        value = await EtcdGateway(cluster.nearest_first(machine.region)).value_of(key)
    except UnreachableError as error:
        raise DatabaseError(f"etcd did not say who holds primacy: {error}") from error
    claim = None if value is None else Claim.parse(value)
    return {
        "region": None if claim is None else claim.region,
        "machine": None if claim is None else claim.machine,
        "unchanged_seconds": None,
        "remaining_seconds": None,
    }


async def revoke(environ: Mapping[str, str]) -> dict[str, object]:
    """Take the primary's lock from it at once; return ``revoked``, the region that had it.

    A healthy primary takes it back; where it is lost, another region need not wait for the lock to
    run out. Needs a majority of etcd and nothing else. Raises NoPrimaryError where nobody has the
    lock, and DatabaseError where etcd does not answer.
    """
    machine, cluster = Machine.from_environ(environ), EtcdCluster.from_environ(environ)
    gateway, key = EtcdGateway(cluster.nearest_first(machine.region)), leader_key(machine.cluster)
    try:
        lock = (await gateway.read(key)).pairs.get(key)
        if lock is None or lock.lease == 0:
            raise NoPrimaryError("nobody has the primary's lock: there is nothing to revoke")
        await gateway.revoke(lock.lease)
    except UnreachableError as error:
        raise DatabaseError(f"etcd did not revoke the primary's lock: {error}") from error
    return {"revoked": lock.value}


async def _vote(cluster: EtcdCluster, member: EtcdMember) -> tuple[EtcdMember, EtcdStatus | None]:
    try:
        return member, await EtcdGateway(cluster.members).status(member)
    except UnreachableError:
        return member, None


async def _ask(url: str) -> dict[str, object] | None:
    try:
        reply = await call(url)
    except UnreachableError:
        return None
    return reply.body if isinstance(reply.body, dict) else None


def _voice(member: EtcdMember, vote: EtcdStatus | None) -> dict[str, object]:
    if vote is None:
        return {"region": member.region, "leader": None, "term": None, "version": None}
    return {
        "region": member.region,
        "leader": vote.is_leader,
        "term": vote.term,
        "version": vote.version,
    }


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
