"""One operator at a time; the second is told who is first, with what and since when."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any, cast

import pytest

from viral_engine.errors import (
    LeaseHeldError,
    OperationError,
    OtherOperatorError,
    PlatformError,
)
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import ExecResult
from viral_engine.operations import operator_lock
from viral_engine.operations.formation import Formation, Standing
from viral_engine.operations.operator_lock import Operator, operating

ME = Operator("ann@desk", "viral failover --to lhr")
BOB = {"who": "bob@desk", "what": "viral failback", "since": "2026-11-25T18:00:00+00:00"}


class Database:
    """A machine with the lock's two commands; ``owner`` is who has it."""

    def __init__(self, *, owner: str = "", majority: bool = True, lease: str = "") -> None:
        self.owner = owner
        self.lease = lease
        self.refuses_leases = False
        self.nonces: dict[str, str] = {}
        self.majority = majority
        self.prolonged = asyncio.Event()

    async def exec(
        self, _app: str, _machine: str, command: list[str], *, timeout: timedelta
    ) -> ExecResult:
        if not self.majority:
            return ExecResult(exit_code=1, stderr="Error: etcd did not answer\n")
        holder = command[command.index("--holder") + 1]
        if "unlock" in command:
            self.owner = "" if self.owner == holder else self.owner
            return said(released=True)
        if self.owner == holder:
            self.prolonged.set()
        self.owner = self.owner or holder
        taken = self.owner == holder
        return said(taken=taken, **BOB)

    async def request(self, method: str, path: str, *, json: Any = None) -> Any:
        """The lease of the machine, for whoever has its nonce."""
        assert path == "/apps/db/machines/1/lease"
        if method == "GET":
            return {"data": {"description": self.lease}}
        if method == "DELETE":
            self.lease = ""
            return None
        if self.refuses_leases:
            raise PlatformError("the host of the machine is gone", status=503)
        if self.lease and not self.nonces:
            raise LeaseHeldError("lease currently held", status=409)
        self.lease = json["description"]
        return {"data": {"nonce": "n"}}


def said(**facts: Any) -> ExecResult:
    return ExecResult(exit_code=0, stdout=json.dumps(facts))


class Heard:
    def __init__(self) -> None:
        self.details: list[str] = []

    def begun(self, step: str) -> None: ...
    def done(self, step: str, seconds: float) -> None: ...
    def seen(self, step: str, detail: str) -> None:
        self.details.append(detail)


def formation(*, majority: bool = True) -> Formation:
    return Formation("iad", (Standing("iad", "db", "1", majority=majority),))


async def test_the_lock_is_held_for_the_block_prolonged_and_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(operator_lock, "PROLONG_EVERY_S", 0.01)
    database = Database()
    async with operating(cast("FlyClient", database), formation(), ME, Heard()):
        assert database.owner
        await asyncio.wait_for(database.prolonged.wait(), 5)
    assert database.owner == ""


async def test_it_is_given_back_when_the_block_is_interrupted() -> None:
    database = Database()
    with pytest.raises(KeyboardInterrupt):
        async with operating(cast("FlyClient", database), formation(), ME, Heard()):
            raise KeyboardInterrupt
    assert database.owner == ""


async def test_the_second_operator_is_told_who_is_first_with_what_and_since_when() -> None:
    database = Database(owner="somebody else's")
    with pytest.raises(OtherOperatorError) as refused:
        async with operating(cast("FlyClient", database), formation(), ME, Heard()):
            pytest.fail("the block ran without the lock")
    assert all(word in refused.value.message for word in BOB.values())
    assert database.owner == "somebody else's"


async def test_who_lost_the_lock_to_another_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_lock, "PROLONG_EVERY_S", 0.01)
    database = Database()

    async def work() -> None:
        async with operating(cast("FlyClient", database), formation(), ME, Heard()):
            database.owner = "somebody else's"
            await asyncio.wait_for(asyncio.Event().wait(), 5)

    with pytest.raises(OtherOperatorError, match="bob@desk"):
        await work()
    assert database.owner == "somebody else's"


async def test_without_a_majority_the_lock_is_the_lease_of_a_machine() -> None:
    heard = Heard()
    database = Database(majority=False)
    async with operating(cast("FlyClient", database), formation(majority=False), ME, heard):
        assert database.lease == "viral failover --to lhr by ann@desk"
    assert database.lease == ""
    assert "the lock is a lease" in heard.details[0]


async def test_the_second_operator_without_a_majority_is_told_who_is_first() -> None:
    database = Database(majority=False, lease="viral promote nrt --force by bob@desk")
    with pytest.raises(OtherOperatorError, match="promote nrt --force by bob@desk"):
        async with operating(cast("FlyClient", database), formation(majority=False), ME, Heard()):
            pytest.fail("the block ran without the lock")


async def test_where_neither_can_be_had_that_is_said_and_the_operator_may_go_on() -> None:
    heard = Heard()
    database = Database(majority=False)
    database.refuses_leases = True
    async with operating(cast("FlyClient", database), formation(majority=False), ME, heard):
        pass
    assert heard.details[1] == "no lease can be had either: the host of the machine is gone"


async def test_a_lock_that_fails_under_a_majority_is_an_error() -> None:
    with pytest.raises(OperationError, match="etcd did not answer"):
        async with operating(cast("FlyClient", Database(majority=False)), formation(), ME, Heard()):
            pytest.fail("the block ran without the lock")
