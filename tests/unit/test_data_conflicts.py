"""What becomes of a change that meets another: refused, kept out, or merged, from values alone."""

from __future__ import annotations

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viral_engine.data.conflicts import (
    Current,
    Incoming,
    Keep,
    LastWriterWins,
    Refuse,
    Reject,
    Resolve,
    Store,
    settle_conflict,
)
from viral_engine.data.hybrid_clock import HybridTime
from viral_engine.data.versions import Expected, parse_tags

Write = tuple[HybridTime, int]
BY_VALUE: LastWriterWins[int] = LastWriterWins(tie=lambda row: row)
# Few times and few values, so that ties are met.
TIMES = st.builds(HybridTime, st.integers(0, 3), st.integers(0, 1), st.sampled_from(["a", "b"]))
WRITES = st.tuples(TIMES, st.integers(0, 3))


def arrive(current: Current[int] | None, write: Write) -> Current[int]:
    """Return the stored row after one write has arrived, as a table would hold it."""
    at, row = write
    outcome = settle_conflict(BY_VALUE, current, Incoming(row, at=at))
    if isinstance(outcome, Store):
        assert outcome.replaces == (current.version if current else None)
        return Current(outcome.row, (outcome.replaces or 0) + 1, at)
    assert isinstance(outcome, Keep)
    assert current is not None
    assert outcome.row == current.row
    return current


def winner(writes: list[Write]) -> Write:
    stored: Current[int] | None = reduce(arrive, writes, None)
    assert stored is not None
    assert stored.at is not None
    return (stored.at, stored.row)


@given(one=WRITES, other=WRITES)
def test_the_last_writer_wins_in_either_order(one: Write, other: Write) -> None:
    assert winner([one, other]) == winner([other, one]) == max(one, other)


@given(one=WRITES, two=WRITES, three=WRITES)
def test_the_last_writer_wins_however_the_writes_are_grouped(
    one: Write, two: Write, three: Write
) -> None:
    left = winner([winner([one, two]), three])
    assert left == winner([one, winner([two, three])]) == max(one, two, three)


@given(write=WRITES)
def test_a_write_that_arrives_again_changes_nothing(write: Write) -> None:
    first = arrive(None, write)
    assert arrive(first, write) is first


@given(data=st.data(), writes=st.lists(WRITES, min_size=1, max_size=8))
def test_every_order_of_arrival_ends_with_the_same_winner(
    data: st.DataObject, writes: list[Write]
) -> None:
    again = data.draw(st.lists(st.sampled_from(writes), max_size=4))
    order = data.draw(st.permutations([*writes, *again]))
    assert winner(list(order)) == winner(writes) == max(writes)


def test_without_a_tie_breaker_a_row_of_the_same_time_stays() -> None:
    at = HybridTime(1, 0, "a")
    strategy: LastWriterWins[str] = LastWriterWins()
    assert settle_conflict(strategy, Current("old", 3, at), Incoming("new", at=at)) == Keep("old")


def test_a_row_that_was_never_stamped_is_older_than_any_that_was() -> None:
    incoming = Incoming("new", at=HybridTime(0, 0, "a"))
    strategy: LastWriterWins[str] = LastWriterWins()
    assert settle_conflict(strategy, Current("old", 3), incoming) == Store("new", replaces=3)


def test_a_write_without_a_time_cannot_be_last() -> None:
    strategy: LastWriterWins[str] = LastWriterWins()
    with pytest.raises(ValueError, match="hybrid time"):
        settle_conflict(strategy, None, Incoming("new"))


def test_a_change_of_another_version_is_rejected_and_one_of_this_version_stored() -> None:
    current = Current("old", 7)
    assert settle_conflict(Reject(), current, Incoming("new")) == Store("new", replaces=7)
    assert settle_conflict(Reject(), current, Incoming("new", Expected(version=7))) == Store(
        "new", 7
    )
    late = Incoming("new", Expected(version=6))
    assert settle_conflict(Reject(), current, late) == Refuse("version-conflict")
    assert settle_conflict(Reject(), None, late) == Refuse("version-conflict")
    assert settle_conflict(Reject(), None, Incoming("new")) == Store("new", replaces=None)


def test_if_match_holds_under_every_strategy() -> None:
    late = Incoming("new", Expected(parse_tags('"6"')), HybridTime(9, 0, "a"))
    current = Current("old", 7, HybridTime(1, 0, "a"))
    merge: Resolve[str] = Resolve(lambda one, other: one + other)
    wins: LastWriterWins[str] = LastWriterWins()
    for strategy in (Reject(), wins, merge):
        assert settle_conflict(strategy, current, late) == Refuse("precondition-failed")
        assert settle_conflict(strategy, None, late) == Refuse("precondition-failed")


def test_a_resolver_merges_what_conflicts_and_is_not_asked_otherwise() -> None:
    asked: list[tuple[frozenset[str], frozenset[str]]] = []

    def union(current: frozenset[str], incoming: frozenset[str]) -> frozenset[str]:
        asked.append((current, incoming))
        return current | incoming

    strategy = Resolve(union)
    current = Current(frozenset("ab"), 7)
    late = Incoming(frozenset("ac"), Expected(version=6))
    assert settle_conflict(strategy, current, late) == Store(frozenset("abc"), replaces=7)
    assert asked == [(frozenset("ab"), frozenset("ac"))]
    fresh = Incoming(frozenset("ac"), Expected(version=7))
    assert settle_conflict(strategy, current, fresh) == Store(frozenset("ac"), replaces=7)
    assert settle_conflict(strategy, None, late) == Refuse("version-conflict")
    assert len(asked) == 1


def test_a_resolver_may_refuse_in_its_own_words() -> None:
    strategy: Resolve[int] = Resolve(lambda _current, _incoming: Refuse("sold out"))
    late = Incoming(1, Expected(version=6))
    assert settle_conflict(strategy, Current(0, 7), late) == Refuse("sold out")
