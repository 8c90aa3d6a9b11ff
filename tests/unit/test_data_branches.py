"""What a failover took from a client is told from its token alone: lost, unknown, or nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viral_engine.data.branches import Lost, settle, worst
from viral_engine.data.token import SessionToken, Span
from viral_engine.lsn import Lsn

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
END = 100
AFTER_ONE_FAILOVER = {1: Lsn(END)}


def token(
    position: int, *, wrote: tuple[int, int] | None = None, timeline: int = 1
) -> SessionToken:
    span = None if wrote is None else Span(Lsn(wrote[0]), Lsn(wrote[1]))
    return SessionToken(7, timeline, Lsn(position), NOW, span)


@pytest.mark.parametrize(
    ("seen", "lost"),
    [
        (token(END), None),
        (token(END, wrote=(END - 9, END)), None),
        (token(END + 1), Lost.READ),
        (token(END + 50, wrote=(END - 9, END)), Lost.READ),
        (token(END + 50, wrote=(END - 9, END + 1)), Lost.WRITE_UNKNOWN),
        (token(END + 50, wrote=(END - 1, END + 50)), Lost.WRITE_UNKNOWN),
        (token(END + 50, wrote=(END, END + 50)), Lost.WRITE),
        (token(END + 90, wrote=(END + 40, END + 50)), Lost.WRITE),
    ],
)
def test_a_commit_is_lost_behind_the_switch_point_and_unknown_across_it(
    seen: SessionToken, lost: Lost | None
) -> None:
    settled = settle(seen, timeline=2, ends=AFTER_ONE_FAILOVER)
    assert settled.lost == lost
    assert settled.token.timeline == 2
    assert settled.token.position == min(seen.position, Lsn(END))


@pytest.mark.parametrize("timeline", [2, 3])
def test_a_token_of_this_timeline_or_a_later_one_is_left_as_it_is(timeline: int) -> None:
    seen = token(END + 50, wrote=(END, END + 50), timeline=timeline)
    assert settle(seen, timeline=2, ends=AFTER_ONE_FAILOVER).token is seen


def test_while_no_history_is_known_nothing_is_said_to_be_lost() -> None:
    seen = token(END + 50, wrote=(END, END + 50))
    settled = settle(seen, timeline=2, ends={})
    assert (settled.token, settled.lost) == (seen, None)


def test_of_a_timeline_that_was_never_an_ancestor_the_common_part_ends_with_the_last_that_was() -> (
    None
):
    # Timelines 2 and 3 both began in 1; the primary is on 3 and never had 2.
    ends = {1: Lsn(END)}
    assert settle(token(END + 50, timeline=2), timeline=3, ends=ends).lost is Lost.READ
    written = token(END + 50, wrote=(END + 40, END + 50), timeline=2)
    assert settle(written, timeline=3, ends=ends).lost is Lost.WRITE
    # What was written there lies behind its beginning, which may be before the other one's.
    early = token(END - 10, wrote=(END - 20, END - 10), timeline=2)
    assert settle(early, timeline=3, ends=ends).lost is Lost.WRITE_UNKNOWN


@given(st.lists(st.sampled_from(Lost) | st.none()))
def test_of_several_losses_the_worst_is_told(losses: list[Lost | None]) -> None:
    told = worst(*losses)
    if Lost.WRITE in losses:
        assert told is Lost.WRITE
    elif Lost.WRITE_UNKNOWN in losses:
        assert told is Lost.WRITE_UNKNOWN
    else:
        assert told is (Lost.READ if Lost.READ in losses else None)


histories = st.lists(st.integers(1, 8), min_size=1, max_size=4).map(
    lambda steps: {timeline: Lsn(sum(steps[:timeline])) for timeline in range(1, len(steps) + 1)}
)
places = st.integers(0, 40)


@st.composite
def tokens(draw: st.DrawFn) -> SessionToken:
    start, size, more = draw(places), draw(st.integers(1, 8)), draw(st.integers(0, 8))
    span = draw(st.none() | st.just(Span(Lsn(start), Lsn(start + size))))
    end = start + size + more
    ahead = Lsn(draw(st.integers(0, end)))
    return SessionToken(7, draw(st.integers(1, 5)), Lsn(end), NOW, span, ahead)


@given(tokens(), histories)
def test_settling_twice_says_the_same_once(seen: SessionToken, ends: dict[int, Lsn]) -> None:
    timeline = max(ends) + 1
    first = settle(seen, timeline=timeline, ends=ends)
    second = settle(first.token, timeline=timeline, ends=ends)
    assert second.token == first.token
    assert second.lost is None


@given(tokens(), histories)
def test_what_is_kept_is_never_more_than_was_seen_and_lies_on_the_primarys_own_branch(
    seen: SessionToken, ends: dict[int, Lsn]
) -> None:
    timeline = max(ends) + 1
    settled = settle(seen, timeline=timeline, ends=ends)
    kept = settled.token
    if seen.timeline >= timeline:
        return
    assert kept.timeline == timeline
    assert kept.position <= seen.position
    assert kept.position <= ends[min(seen.timeline, max(ends))]
    assert kept.wrote in {None, seen.wrote}
    assert kept.wrote is None or kept.wrote.end <= kept.position


@given(tokens(), histories)
def test_only_a_writer_is_told_of_a_lost_write_and_only_if_its_commit_did_not_survive(
    seen: SessionToken, ends: dict[int, Lsn]
) -> None:
    settled = settle(seen, timeline=max(ends) + 1, ends=ends)
    if settled.lost in {Lost.WRITE, Lost.WRITE_UNKNOWN}:
        assert seen.wrote is not None
        assert settled.token.wrote is None
    if settled.lost is Lost.WRITE:
        assert seen.wrote
        # It began behind all that the primary shares with its timeline.
        assert seen.wrote.start >= ends[min(seen.timeline, max(ends))]
    if settled.lost is None and seen.timeline <= max(ends):
        assert settled.token == replace(seen, timeline=max(ends) + 1, ahead=Lsn(0))


@given(tokens(), histories)
def test_two_failovers_at_once_take_no_less_than_one_after_the_other(
    seen: SessionToken, ends: dict[int, Lsn]
) -> None:
    at_once = settle(seen, timeline=max(ends) + 1, ends=ends)
    one, told = seen, []
    for timeline in range(2, max(ends) + 2):
        known = {old: end for old, end in ends.items() if old < timeline}
        settled = settle(one, timeline=timeline, ends=known)
        one = settled.token
        told.append(settled.lost)
    assert at_once.token.position == one.position
    assert at_once.token.timeline == one.timeline
    said = [lost for lost in told if lost]
    assert (at_once.lost is None) == (not said)
