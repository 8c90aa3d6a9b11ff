"""One operator at a time; the second is told who is first, with what and since when."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any, cast

import pytest

from viral_engine.errors import OperationError, OtherOperatorError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import ExecResult
from viral_engine.operations import operator_lock
from viral_engine.operations.formation import Formation, Standing
from viral_engine.operations.operator_lock import Operator, operating

ME = Operator("ann@desk", "viral failover --to lhr")
BOB = {"who": "bob@desk", "what": "viral failback", "since": "2026-11-25T18:00:00+00:00"}


class Database:
    """A machine with the lock's two commands; ``owner`` is who has it."""

    def __init__(self, *, owner: str = "", majority: bool = True) -> None:
        self.owner = owner
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


async def test_without_a_majority_it_is_said_that_no_lock_can_be_had() -> None:
    heard = Heard()
    database = cast("FlyClient", Database(majority=False))
    async with operating(database, formation(majority=False), ME, heard):
        pass
    assert "no lock can be had" in heard.details[0]


async def test_a_lock_that_fails_under_a_majority_is_an_error() -> None:
    with pytest.raises(OperationError, match="etcd did not answer"):
        async with operating(cast("FlyClient", Database(majority=False)), formation(), ME, Heard()):
            pytest.fail("the block ran without the lock")
