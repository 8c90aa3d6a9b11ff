from __future__ import annotations

import base64
import json
from collections.abc import Mapping

from viral_engine.clock import SYSTEM_CLOCK, Clock
from viral_engine.cluster.etcd import EtcdGateway, EtcdSnapshot
from viral_engine.cluster.wire import UnreachableError
from viral_engine.errors import DatabaseError
from viral_engine.nodes.machine import EtcdCluster, Machine

__all__ = ["LOCK_SECONDS", "lock", "lock_key", "unlock"]

LOCK_SECONDS = 15
"""How long it outlives a command that died without a word."""


def lock_key(cluster: str) -> str:
    """Return the key in etcd that names the operator who is at work."""
    return f"/viral/{cluster}/operator"


async def lock(
    environ: Mapping[str, str], *, holder: str, who: str, what: str, clock: Clock = SYSTEM_CLOCK
) -> dict[str, object]:
    """Take the operators' lock, or hold it for 15 s more where ``holder`` has it already.

    The answer says whose it is now: ``taken``, and ``who``, ``what`` and ``since`` of the one who
    has it. Raises DatabaseError where etcd has no majority.
    """
    machine, store = _store(environ)
    key = lock_key(machine.cluster)
    try:
        found = (await store.read(key)).pairs.get(key)
        if found is None:
            note = {"holder": holder, "who": who, "what": what,
                    "since": clock.now().isoformat(timespec="seconds")}  # fmt: skip
            found = (await store.put_leased(key, json.dumps(note), LOCK_SECONDS)).pairs[key]
        kept = _note(found.value)
        if kept.pop("holder", None) == holder:
            await store.keep_alive(found.lease)
            return {"taken": True, **kept}
    except UnreachableError as error:
        raise DatabaseError(f"etcd did not answer about the operators' lock: {error}") from error
    return {"taken": False, **kept}


async def unlock(environ: Mapping[str, str], *, holder: str) -> dict[str, object]:
    """Give the operators' lock back where ``holder`` has it; tell whether it had.

    Raises DatabaseError where etcd has no majority.
    """
    machine, store = _store(environ)
    key = lock_key(machine.cluster)
    try:
        found = (await store.read(key)).pairs.get(key)
        if found is None or _note(found.value).get("holder") != holder:
            return {"released": False}
        await store.revoke(found.lease)
    except UnreachableError as error:
        raise DatabaseError(f"etcd did not take the operators' lock back: {error}") from error
    return {"released": True}


class _LeasingGateway(EtcdGateway):
    """Adds the keys that vanish with who wrote them."""

    async def put_leased(self, key: str, value: str, seconds: int) -> EtcdSnapshot:
        """Write a key that does not exist, on a lease of its own; return what is there now."""
        granted = await self._ask("/v3/lease/grant", {"TTL": str(seconds)})
        encoded = base64.b64encode(key.encode()).decode()
        absent = {"key": encoded, "target": "MOD", "mod_revision": "0"}
        put = {"key": encoded, "value": base64.b64encode(value.encode()).decode(),
               "lease": str(granted.field("ID"))}  # fmt: skip
        look = {"request_range": {"key": encoded}}
        return await self._transact([absent], [{"request_put": put}, look], [look])

    async def keep_alive(self, lease: int) -> None:
        """Let a lease run in full again."""
        await self._ask("/v3/lease/keepalive", {"ID": str(lease)})


def _store(environ: Mapping[str, str]) -> tuple[Machine, _LeasingGateway]:
    machine, cluster = Machine.from_environ(environ), EtcdCluster.from_environ(environ)
    return machine, _LeasingGateway(cluster.nearest_first(machine.region))


def _note(text: str) -> dict[str, object]:
    try:
        note = json.loads(text)
    except ValueError:
        note = None
    return note if isinstance(note, dict) else {}
