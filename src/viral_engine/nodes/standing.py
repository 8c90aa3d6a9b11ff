from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from importlib.resources import files

import psycopg
from psycopg.rows import dict_row

from viral_engine.cluster.etcd import EtcdGateway, EtcdSnapshot
from viral_engine.cluster.links import answered_within
from viral_engine.cluster.primacy import Claim, primacy_key
from viral_engine.cluster.wire import UnreachableError
from viral_engine.lsn import Lsn
from viral_engine.nodes.machine import (
    DATABASE_PORT,
    DatabaseSettings,
    EtcdCluster,
    EtcdMember,
    Machine,
)
from viral_engine.nodes.operator_lock import lock_key
from viral_engine.nodes.patroni import SUPERUSER, config_key, leader_key, sync_key
from viral_engine.nodes.primacy_desk import ask_desk

__all__ = ["standing"]

STEP_LIMIT = timedelta(seconds=1.5)
DATABASE_LIMIT_S = 2


def status_key(cluster: str) -> str:
    """Return the key in etcd under which the primary notes, every second, how far it is."""
    return f"/service/{cluster}/status"


async def standing(environ: Mapping[str, str]) -> dict[str, object]:
    """Return all that an operator's decision needs and this machine knows, ready for JSON.

    It waits for no majority: what etcd says is what this region's member knew last, and
    ``majority`` tells whether that is up to date. What is silent is None. It takes 8 s at the most.
    """
    machine, cluster = Machine.from_environ(environ), EtcdCluster.from_environ(environ)
    store = EtcdGateway(cluster.nearest_first(machine.region), timeout=STEP_LIMIT)
    database, known, majority, said, voices = await asyncio.gather(
        _database(machine, DatabaseSettings.from_environ(environ)),
        _at_hand(store, machine.cluster),
        _majority(store, machine.cluster),
        ask_desk(machine.data / "run"),
        asyncio.gather(*(_voice(store, member) for member in cluster.members)),
    )
    return {
        "region": machine.region,
        "machine": machine.machine_id,
        **database,
        **_of_store(known, machine.cluster),
        "primacy": said or _holder(known, primacy_key(machine.cluster)),
        "guarded": said is not None,
        "majority": majority,
        "voices": dict(voices),
    }


async def _database(machine: Machine, settings: DatabaseSettings) -> dict[str, object]:
    silent = dict.fromkeys(("received", "replayed", "streaming", "timeline"))
    question = files(__package__).joinpath("standing.sql").read_bytes()
    try:
        async with await psycopg.AsyncConnection.connect(
            host=machine.private_ip, port=DATABASE_PORT, user=SUPERUSER, dbname="postgres",
            password=settings.superuser_password, row_factory=dict_row, autocommit=True,
            connect_timeout=DATABASE_LIMIT_S,
        ) as node:  # fmt: skip
            with answered_within(node, DATABASE_LIMIT_S):
                row = await (await node.execute(question)).fetchone()
    except (psycopg.Error, OSError, TimeoutError):
        return {"role": "unknown", **silent}
    assert row is not None, "it selects from one row"
    role = "replica" if row.pop("in_recovery") else "primary"
    return {"role": role, **row}


async def _at_hand(store: EtcdGateway, cluster: str) -> EtcdSnapshot | None:
    keys = (leader_key, sync_key, status_key, config_key, primacy_key, lock_key)
    try:
        return await store.read(*(key(cluster) for key in keys), at_hand=True)
    except UnreachableError:
        return None


async def _majority(store: EtcdGateway, cluster: str) -> bool:
    try:
        await store.read(leader_key(cluster))
    except UnreachableError:
        return False
    return True


async def _voice(store: EtcdGateway, member: EtcdMember) -> tuple[str, bool]:
    try:
        await store.status(member)
    except UnreachableError:
        return member.region, False
    return member.region, True


def _of_store(known: EtcdSnapshot | None, cluster: str) -> dict[str, object]:
    """What Patroni wrote down last: who leads, how far it was, who may take over, any pause."""
    sync, told = _json(known, sync_key(cluster)), _json(known, status_key(cluster))
    config, operator = _json(known, config_key(cluster)), _json(known, lock_key(cluster))
    lock = None if known is None else known.pairs.get(leader_key(cluster))
    reached, standby = told.get("optime"), sync.get("sync_standby")
    return {
        "lock": None if lock is None else lock.value,
        "last_primary": sync.get("leader"),
        "last_position": str(Lsn(reached)) if isinstance(reached, int) else None,
        "synchronous": str(standby).split(",") if standby else [],
        "paused": None if known is None else bool(config.get("pause")),
        "operator": operator or None,
    }


def _holder(known: EtcdSnapshot | None, key: str) -> dict[str, object] | None:
    pair = None if known is None else known.pairs.get(key)
    if pair is None:
        return None
    claim = Claim.parse(pair.value)
    unknown = dict.fromkeys(("unchanged_seconds", "remaining_seconds"))
    return {"region": claim.region, "machine": claim.machine, **unknown}


def _json(known: EtcdSnapshot | None, key: str) -> Mapping[str, object]:
    pair = None if known is None else known.pairs.get(key)
    try:
        value = json.loads(pair.value) if pair else None
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}
