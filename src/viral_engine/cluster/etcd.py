from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from viral_engine.cluster.wire import DEFAULT_TIMEOUT, Reply, UnreachableError, call

__all__ = ["EtcdEndpoint", "EtcdGateway", "EtcdPair", "EtcdSnapshot", "EtcdStatus", "Lease"]


class EtcdEndpoint(Protocol):
    """A member of etcd as its clients know it."""

    @property
    def region(self) -> str:
        """The member's name, which is its region."""

    @property
    def client_url(self) -> str:
        """Where clients reach it."""


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


@dataclass(frozen=True, slots=True)
class EtcdPair:
    """What one key holds: its text, the revision that wrote it and its lease (0 for none)."""

    value: str
    revision: int
    lease: int


@dataclass(frozen=True, slots=True)
class EtcdSnapshot:
    """Some keys at one moment of the store, which its ``revision`` numbers; absent ones are not in."""

    revision: int
    pairs: Mapping[str, EtcdPair]


class EtcdGateway:
    """Speaks to etcd through the JSON gateway of its members, in the order given.

    Every method raises UnreachableError where no member that was asked answers; ``timeout`` bounds
    each step on a connection to one of them.
    """

    def __init__(
        self, members: Sequence[EtcdEndpoint], *, timeout: timedelta = DEFAULT_TIMEOUT
    ) -> None:
        self._members = tuple(members)
        self._timeout = timeout

    def only(self, turn: int) -> EtcdGateway:
        """Return a gateway to a single member, another one for each ``turn`` from 0 on."""
        member = self._members[turn % len(self._members)]
        return EtcdGateway((member,), timeout=self._timeout)

    async def status(self, member: EtcdEndpoint | None = None) -> EtcdStatus:
        """Ask one member how it stands, by default the first."""
        member = member or self._members[0]
        reply = await self._post(member, "/v3/maintenance/status", {})
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
        await self.replace(key, value, revision=0)

    async def value_of(self, key: str) -> str | None:
        """Return what a key holds, None where there is no such key."""
        pair = (await self.read(key)).pairs.get(key)
        return None if pair is None else pair.value

    async def lease_on(self, key: str) -> Lease | None:
        """Return the lease that a key hangs on; None without the key, its lease or its time."""
        pair = (await self.read(key)).pairs.get(key)
        if pair is None or pair.lease == 0:
            return None
        reply = await self._ask("/v3/lease/timetolive", {"ID": str(pair.lease)})
        remaining = _number(reply.field("TTL"))
        return Lease(_number(reply.field("grantedTTL")), remaining) if remaining > 0 else None

    async def revoke(self, lease: int) -> None:
        """End a lease now, and with it every key that hangs on it."""
        await self._ask("/v3/lease/revoke", {"ID": str(lease)})

    async def move_leader(self, leader: EtcdEndpoint, to: int) -> None:
        """Have ``leader``, which must lead, hand over to the member with the id ``to``."""
        await self._post(leader, "/v3/maintenance/transfer-leadership", {"targetID": str(to)})

    async def read(self, *keys: str, at_hand: bool = False) -> EtcdSnapshot:
        """Return some keys as they are now or, ``at_hand``, as this member knew them last.

        The latter costs no trip to the others and is answered without a majority too.
        """
        return await self._transact([], [_range(key, at_hand=at_hand) for key in keys], [])

    async def replace(
        self, key: str, value: str, *, revision: int, reading: tuple[str, ...] = ()
    ) -> EtcdSnapshot:
        """Write a key if ``revision`` wrote it last (0: if it is absent); return what is there now.

        The answer holds the key and those of ``reading``; whose value it is tells the outcome.
        """
        put = {"request_put": {"key": _encode(key), "value": _encode(value)}}
        ranges = [_range(one) for one in (key, *reading)]
        return await self._transact([_unchanged(key, revision)], [put, *ranges], ranges)

    async def remove(
        self, key: str, *, revision: int, reading: tuple[str, ...] = ()
    ) -> EtcdSnapshot:
        """Delete a key if ``revision`` wrote it last; return what is there now, as ``replace``."""
        delete = {"request_delete_range": {"key": _encode(key)}}
        ranges = [_range(one) for one in (key, *reading)]
        return await self._transact([_unchanged(key, revision)], [delete, *ranges], ranges)

    async def _transact(
        self,
        compare: list[Mapping[str, object]],
        success: list[Mapping[str, object]],
        failure: list[Mapping[str, object]],
    ) -> EtcdSnapshot:
        body = {"compare": compare, "success": success, "failure": failure}
        return _snapshot(await self._ask("/v3/kv/txn", body))

    async def _ask(self, path: str, body: Mapping[str, object]) -> Reply:
        failures = []
        for member in self._members:
            try:
                return await self._post(member, path, body)
            except UnreachableError as error:
                failures.append(str(error))
        raise UnreachableError("; ".join(failures))

    async def _post(self, member: EtcdEndpoint, path: str, body: Mapping[str, object]) -> Reply:
        reply = await call(f"{member.client_url}{path}", body, timeout=self._timeout)
        if reply.status != 200:
            raise UnreachableError(f"{member.region}: {reply.field('message') or reply.body}")
        return reply


def _range(key: str, *, at_hand: bool = False) -> Mapping[str, object]:
    return {"request_range": {"key": _encode(key), "serializable": at_hand}}


def _unchanged(key: str, revision: int) -> Mapping[str, object]:
    # A key that is absent compares as revision 0.
    return {"key": _encode(key), "target": "MOD", "mod_revision": str(revision)}


def _snapshot(reply: Reply) -> EtcdSnapshot:
    header, responses = reply.field("header"), reply.field("responses")
    pairs: dict[str, EtcdPair] = {}
    for response in responses if isinstance(responses, list) else []:
        for raw in response.get("response_range", {}).get("kvs", []):
            pairs[_decode(raw["key"])] = EtcdPair(
                value=_decode(raw.get("value", "")),
                revision=_number(raw.get("mod_revision")),
                lease=_number(raw.get("lease")),
            )
    return EtcdSnapshot(_number(header.get("revision") if isinstance(header, dict) else 0), pairs)


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decode(text: str) -> str:
    return base64.b64decode(text).decode()


def _number(value: object) -> int:
    # The gateway writes 64-bit numbers as strings and leaves zeros out.
    return int(value) if isinstance(value, (str, int)) else 0
