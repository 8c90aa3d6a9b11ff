from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viral_engine.data import Session, SessionToken
from viral_engine.data.commit import Commit
from viral_engine.data.positions import (
    Position,
    after_commit,
    after_read,
    covers,
    without_page_header,
)
from viral_engine.lsn import Lsn

SEGMENT = 16 * 1024 * 1024
PAGE = 8192


def token(timeline: int, position: int) -> SessionToken:
    return SessionToken(1, timeline, Lsn(position), datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("at", "timeline", "position", "expected"),
    [
        (Position(1, Lsn(10), in_recovery=True), 1, 10, True),
        (Position(1, Lsn(10), in_recovery=True), 1, 11, False),
        (Position(2, Lsn(99), in_recovery=True), 1, 10, False),
        (Position(1, Lsn(99), in_recovery=True), 2, 10, False),
        (Position(1, Lsn(10), in_recovery=False), 1, 11, True),
        (Position(2, Lsn(10), in_recovery=False), 1, 99, True),
        (Position(1, Lsn(99), in_recovery=False), 2, 10, False),
    ],
)
def test_r05_a_position_is_compared_within_one_timeline_only(
    *, at: Position, timeline: int, position: int, expected: bool
) -> None:
    assert covers(at, token(timeline, position)) is expected


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (3 * PAGE + 24, 3 * PAGE),
        (SEGMENT + 40, SEGMENT),
        (SEGMENT + 24, SEGMENT),
        (3 * PAGE + 40, 3 * PAGE + 40),
        (3 * PAGE + 25, 3 * PAGE + 25),
        (3 * PAGE, 3 * PAGE),
    ],
)
def test_r01_a_page_header_that_nothing_follows_is_not_part_of_a_position(
    position: int, expected: int
) -> None:
    assert without_page_header(Lsn(position), page=PAGE, segment=SEGMENT) == Lsn(expected)


def commit_row(flushed: str, inserted: str) -> dict[str, object]:
    sizes = {"segment_size": SEGMENT, "page_size": PAGE}
    return {"timeline": 3, "flushed": flushed, "inserted": inserted, **sizes}


def test_r23_a_commit_that_was_not_flushed_is_covered_by_what_was_inserted() -> None:
    row = commit_row("0/3000060", "0/3004018")
    at = [after_commit(row, synchronous_commit=level).lsn for level in ("local", "off")]
    assert at == [Lsn.parse("0/3000060"), Lsn.parse("0/3004000")]


def test_a_replica_that_streams_no_more_has_the_timeline_it_was_last_seen_on() -> None:
    row = {"in_recovery": True, "timeline": 1, "lsn": "0/10", "waiting": 0}
    assert after_read(row, known_timeline=2) == Position(2, Lsn(16), in_recovery=True)
    assert after_read(row, known_timeline=None) == Position(1, Lsn(16), in_recovery=True)
    primary = {"in_recovery": False, "timeline": 3, "lsn": "0/10", "waiting": 2}
    assert after_read(primary, known_timeline=9) == Position(
        3, Lsn(16), in_recovery=False, waiting=2
    )
    assert after_read({**row, "lsn": None}, known_timeline=1) is None


places = st.tuples(st.integers(1, 3), st.integers(0, 9), st.booleans())


@given(st.lists(places, min_size=1, max_size=8))
def test_a_session_only_advances(steps: list[tuple[int, int, bool]]) -> None:
    session = Session()
    seen: list[tuple[int, Lsn]] = []
    for timeline, position, writes in steps:
        at = Lsn(position)
        if writes:
            session.wrote_at(Commit(timeline, at, at, in_two_regions=True), cluster=1)
        else:
            session.read_at(Position(timeline, at, in_recovery=True), cluster=1)
        assert session.token is not None
        seen.append((session.token.timeline, session.token.position))
    assert seen == sorted(seen)
    assert seen[-1] == max((timeline, Lsn(position)) for timeline, position, _ in steps)
    assert session.wrote is any(writes for *_, writes in steps)


def test_a_session_that_meets_another_cluster_begins_anew() -> None:
    session = Session(token(9, 9))
    session.read_at(Position(1, Lsn(5), in_recovery=False), cluster=2)
    assert session.token is not None
    assert (session.token.cluster, session.token.position) == (2, Lsn(5))
