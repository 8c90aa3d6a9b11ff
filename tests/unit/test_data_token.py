from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viral_engine.data import Ignored, SessionToken, TokenSigner
from viral_engine.data.token import FAR_AHEAD_BYTES, Span, merge, why_foreign
from viral_engine.lsn import Lsn

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CLUSTER = 7_400_000_000_000_000_001


class StillClock:
    def __init__(self, at: datetime = NOW) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


def token(
    position: int = 0x3000060, *, timeline: int = 1, cluster: int = CLUSTER, at: datetime = NOW
) -> SessionToken:
    return SessionToken(cluster, timeline, Lsn(position), at)


def signer(secret: str = "now", previous: str | None = None) -> TokenSigner:
    return TokenSigner(secret, previous, clock=StillClock())


spans = st.none() | st.tuples(st.integers(0, 4), st.integers(1, 4)).map(
    lambda ends: Span(Lsn(min(ends)), Lsn(max(ends)))
)
any_spans = st.none() | st.tuples(st.integers(0, 2**64 - 1), st.integers(1, 2**64 - 1)).map(
    lambda ends: Span(Lsn(min(ends)), Lsn(max(ends)))
)
tokens = st.builds(
    SessionToken,
    cluster=st.just(CLUSTER),
    timeline=st.integers(1, 3),
    position=st.builds(Lsn, st.integers(0, 4)),
    issued_at=st.integers(0, 800_000).map(lambda ms: NOW - timedelta(milliseconds=ms)),
    wrote=spans,
    ahead=st.builds(Lsn, st.integers(0, 4)),
)
any_tokens = st.builds(
    SessionToken,
    cluster=st.integers(0, 2**64 - 1),
    timeline=st.integers(0, 2**32 - 1),
    position=st.builds(Lsn, st.integers(0, 2**64 - 1)),
    issued_at=st.integers(0, 800_000).map(lambda ms: NOW - timedelta(milliseconds=ms)),
    wrote=any_spans,
    ahead=st.builds(Lsn, st.integers(0, 2**64 - 1)),
)


@given(any_tokens)
def test_what_was_signed_is_read_back_the_same(one: SessionToken) -> None:
    text = signer().sign(one)
    assert signer().read(text) == one
    assert text.isascii()
    assert not set(text) & set(' ",;\\')
    assert len(text) <= 128


@given(any_tokens, st.data())
def test_r15_a_token_that_was_changed_anywhere_is_ignored(
    one: SessionToken, data: st.DataObject
) -> None:
    text = signer().sign(one)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("fA0-_.=").filter(lambda c: c != text[place]))
    assert isinstance(signer().read(text[:place] + other + text[place + 1 :]), Ignored)


@given(st.text(max_size=200))
def test_r15_text_that_is_no_token_is_ignored_whatever_it_holds(text: str) -> None:
    assert isinstance(signer().read(text), Ignored)


@given(tokens, tokens, tokens)
def test_merging_is_a_maximum_in_any_order(
    one: SessionToken, two: SessionToken, three: SessionToken
) -> None:
    assert merge(one, one) == one
    assert merge(one, two) == merge(two, one)
    assert merge(merge(one, two), three) == merge(one, merge(two, three))
    merged = merge(one, two)
    assert (merged.timeline, merged.position) == max(
        (one.timeline, one.position), (two.timeline, two.position)
    )
    commits = [each.wrote for each in (one, two) if each.timeline == merged.timeline and each.wrote]
    assert merged.wrote == max(commits, key=lambda span: (span.end, span.start), default=None)


def test_a_higher_timeline_wins_over_a_higher_position() -> None:
    assert merge(token(900, timeline=1), token(5, timeline=2)).position == Lsn(5)


def test_tokens_of_two_clusters_are_not_merged() -> None:
    with pytest.raises(ValueError, match="two clusters"):
        merge(token(), token(cluster=1))


def test_a_changed_key_still_reads_what_the_previous_one_signed() -> None:
    old = signer("before").sign(token())
    assert signer("now", "before").read(old) == token()
    assert signer("now").read(old) is Ignored.UNKNOWN_KEY
    assert signer("before", "now").read(signer("now", "before").sign(token())) == token()


def test_a_token_of_another_tenant_is_forged() -> None:
    text = signer().sign(token(), tenant="a")
    assert signer().read(text, tenant="b") is Ignored.FORGED
    assert signer().read(text) is Ignored.FORGED
    assert signer().read(text, tenant="a") == token()


def test_r15_a_token_expires_after_a_quarter_of_an_hour() -> None:
    clock = StillClock()
    reader = TokenSigner("now", clock=clock)
    text = signer().sign(token())
    clock.at = NOW + timedelta(minutes=15)
    assert reader.read(text) == token()
    clock.at += timedelta(milliseconds=1)
    assert reader.read(text) is Ignored.EXPIRED


@pytest.mark.parametrize("skew", [-5, 5])
def test_r28_clocks_five_minutes_apart_change_nothing(skew: int) -> None:
    other = TokenSigner("now", clock=StillClock(NOW + timedelta(minutes=skew)))
    assert other.read(signer().sign(token())) == token()


def test_r15_a_token_of_another_cluster_or_far_ahead_of_every_node_is_ignored() -> None:
    heads = {1: Lsn(2000), 2: Lsn(3000)}
    assert why_foreign(token(cluster=1), cluster=CLUSTER, heads=heads) is Ignored.FOREIGN
    ahead = 2000 + FAR_AHEAD_BYTES
    assert why_foreign(token(ahead), cluster=CLUSTER, heads=heads) is None
    assert why_foreign(token(ahead + 1), cluster=CLUSTER, heads=heads) is Ignored.FAR_AHEAD
    assert why_foreign(token(2**64 - 1), cluster=CLUSTER, heads=heads) is Ignored.FAR_AHEAD
    assert why_foreign(token(2**64 - 1, timeline=3), cluster=None, heads=heads) is None


def test_a_process_without_a_secret_accepts_only_its_own_tokens() -> None:
    lone = TokenSigner(None, clock=StillClock())
    assert lone.read(lone.sign(token())) == token()
    other = TokenSigner(None, clock=StillClock())
    assert other.read(lone.sign(token())) is Ignored.UNKNOWN_KEY
