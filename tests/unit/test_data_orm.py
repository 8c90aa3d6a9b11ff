"""What of the routed sessions needs no database: which transactions write, blocks, what errors are."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from viral_engine.data import Detour, Need, Route, RouteKind, routed
from viral_engine.data.blocks import at_primary, reads_at_primary
from viral_engine.data.orm_errors import as_operational
from viral_engine.data.orm_loans import Loan, Purpose, purpose_of
from viral_engine.errors import (
    NoPrimaryError,
    OneRegionError,
    ReplicaUnavailableError,
    UnknownOutcomeError,
)

NEAR = Route(RouteKind.LOCAL, "replica", "lhr")


def test_a_block_at_the_primary_ends_with_the_outermost_also_when_it_fails() -> None:
    with at_primary():
        with pytest.raises(ValueError, match="inside"), at_primary():
            raise ValueError("inside")
        assert reads_at_primary()
    assert not reads_at_primary()


async def test_a_block_holds_for_the_tasks_that_it_starts_and_not_for_others() -> None:
    async def asks() -> bool:
        return reads_at_primary()

    before = asyncio.create_task(asks())
    with at_primary():
        inside = asyncio.create_task(asks())
    assert (await before, await inside, reads_at_primary()) == (False, True, False)


def test_transactions_write_outside_of_requests_and_where_the_request_needs_the_primary() -> None:
    assert purpose_of(None) is Purpose.WRITING
    for need in (Need.NEAR, Need.STRONG):
        with routed(NEAR, need=need) as bound:
            assert purpose_of(bound) is Purpose.READING
    with routed(NEAR, need=Need.PRIMARY) as bound:
        assert purpose_of(bound) is Purpose.WRITING
    with routed(NEAR, writes_anyway=True) as bound:
        assert purpose_of(bound) is Purpose.WRITING


async def test_what_must_not_be_answered_is_raised_before_the_answer() -> None:
    told: list[str] = []

    async def teller() -> None:
        told.append("told")

    with routed(NEAR) as bound:
        with bound.reading(teller):
            assert bound.has_to_tell
            await bound.tell()
        assert not bound.has_to_tell
        await bound.tell()
        assert told == ["told"]
        bound.must_not_answer(ReplicaUnavailableError("it lacks it"))
        assert bound.has_to_tell
        with pytest.raises(ReplicaUnavailableError, match="it lacks it"):
            await bound.tell()


@pytest.mark.parametrize("error", [NoPrimaryError("away"), ReplicaUnavailableError("away")])
def test_a_database_that_is_away_is_an_operational_error_too(error: Exception) -> None:
    said = as_operational(error)
    assert isinstance(said, OperationalError)
    assert isinstance(said, type(error))
    assert said.orig is error
    assert "away" in str(said)
    assert as_operational(said) is None


@pytest.mark.parametrize("error", [UnknownOutcomeError(), OneRegionError(), ValueError()])
def test_an_unknown_outcome_is_not_one_that_may_be_repeated(error: Exception) -> None:
    assert as_operational(error) is None


def test_a_refusal_that_another_node_would_not_give_is_a_detour() -> None:
    broken = psycopg.OperationalError("the socket broke")
    with routed(NEAR) as bound:
        loan = Loan(_NO_CONNECTION, Purpose.READING, bound, is_near=True)
        assert loan.meaning(psycopg.errors.ReadOnlySqlTransaction()) is None
        assert bound.detour is Detour.WRITE_IN_READ
        conflict = psycopg.errors.SerializationFailure()
        assert isinstance(loan.meaning(conflict), ReplicaUnavailableError)
        assert str(bound.detour) == "recovery-conflict"
        assert isinstance(loan.meaning(broken), ReplicaUnavailableError)
        assert loan.meaning(psycopg.errors.QueryCanceled()) is None
        far = Loan(_NO_CONNECTION, Purpose.READING, bound)
        assert far.meaning(conflict) is None
    writing = Loan(_NO_CONNECTION, Purpose.WRITING, None)
    assert isinstance(writing.meaning(broken), NoPrimaryError)
    assert isinstance(writing.meaning(psycopg.errors.ReadOnlySqlTransaction()), NoPrimaryError)
    assert writing.meaning(psycopg.errors.DeadlockDetected()) is None


_NO_CONNECTION: psycopg.AsyncConnection[tuple[object, ...]] = psycopg.AsyncConnection.__new__(
    psycopg.AsyncConnection
)
