"""Who may claim primacy and what a node does about it, decided over what it saw and when."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viral_engine.clock import BootClock
from viral_engine.cluster.etcd import EtcdPair, EtcdSnapshot
from viral_engine.cluster.primacy import (
    UNCHANGED_S,
    VALID_S,
    Claim,
    Engine,
    Move,
    Sight,
    Situation,
    deadline_of,
    is_expired,
    may_claim,
    next_move,
    primacy_key,
    sight_of,
)
from viral_engine.errors import UnsupportedError
from viral_engine.nodes.primacy_deadline import PrimacyDeadline

KEY, LOCK = primacy_key("demo"), "/service/demo/leader"
ME = Claim("iad", "m1", "a1", 7)
EARLIER_RUN = Claim("iad", "m1", "a0", 3)
OTHER = Claim("lhr", "m2", "b1", 9)
NOW = 100.0


def seen(claim: Claim | None, *, since: float = NOW, leader: str | None = "iad") -> Sight:
    revision = 0 if claim is None else 40
    return Sight(50, revision, claim, since, leader, leader_since=0.0)


def here(engine: Engine, sight: Sight | None, **more: object) -> Situation:
    base = Situation(ME, engine, None, sight, deadline=None, promoting=False, now=NOW)
    return replace(base, **more)  # type: ignore[arg-type]  # the fields of a situation, by name


def found(revision: int, claim: Claim | None, *, written: int = 40) -> EtcdSnapshot:
    pairs = {} if claim is None else {KEY: EtcdPair(claim.text(), written, 0)}
    return EtcdSnapshot(revision, {**pairs, LOCK: EtcdPair("iad", 5, 11)})


def looked(before: Sight | None, snapshot: EtcdSnapshot, now: float) -> Sight:
    return sight_of(before, snapshot, key=KEY, leader_key=LOCK, now=now)


def test_a_claim_survives_its_own_text_and_anything_else_is_somebody_elses() -> None:
    assert Claim.parse(ME.text()) == ME
    for text in ("", "lhr", "[]", '{"region": "iad"}'):
        assert Claim.parse(text).run == ""


def test_an_absent_key_and_a_key_of_this_run_may_be_claimed_at_once() -> None:
    assert may_claim(seen(None), ME, NOW)
    assert may_claim(seen(ME), ME, NOW)


@pytest.mark.parametrize("claim", [OTHER, EARLIER_RUN], ids=["another-machine", "an-earlier-run"])
def test_a_key_of_another_run_may_be_claimed_once_it_has_not_changed_for_five_seconds(
    claim: Claim,
) -> None:
    assert not may_claim(seen(claim, since=NOW - 4.99), ME, NOW)
    assert may_claim(seen(claim, since=NOW - 5), ME, NOW)


def test_time_counts_from_when_this_observer_first_saw_the_revision() -> None:
    first = looked(None, found(50, OTHER), 10.0)
    again = looked(first, found(57, OTHER), 14.0)
    assert (again.since, again.store) == (10.0, 57)
    renewed = looked(again, found(60, OTHER, written=59), 15.0)
    assert renewed.since == 15.0


def test_an_answer_that_is_older_than_what_is_known_changes_nothing() -> None:
    known = looked(None, found(60, OTHER, written=59), 10.0)
    assert looked(known, found(57, OTHER), 11.0) is known
    assert looked(known, found(58, None), 11.0) is known


def test_the_leader_is_known_since_it_was_first_seen_whatever_the_key_does() -> None:
    first = looked(None, found(50, None), 10.0)
    later = looked(first, found(60, OTHER, written=59), 12.0)
    assert (later.leader, later.leader_since, later.since) == ("iad", 10.0, 12.0)


def test_nothing_is_known_before_the_first_answer_so_every_engine_looks() -> None:
    for engine in set(Engine) - {Engine.LEFTOVERS}:
        assert next_move(here(engine, None)) is Move.WATCH


@pytest.mark.parametrize(
    ("engine", "claim", "move"),
    [
        (Engine.PRIMARY, None, Move.CLAIM),
        (Engine.PRIMARY, ME, Move.CLAIM),
        (Engine.PRIMARY, OTHER, Move.WATCH),
        (Engine.REPLICA, None, Move.WATCH),
        (Engine.REPLICA, ME, Move.RELEASE),
        (Engine.REPLICA, OTHER, Move.WATCH),
        (Engine.DOWN, ME, Move.RELEASE),
        (Engine.DOWN, EARLIER_RUN, Move.RELEASE),
        (Engine.DOWN, OTHER, Move.WATCH),
        (Engine.BUSY, None, Move.WATCH),
        (Engine.LEFTOVERS, ME, Move.KILL),
    ],
)
def test_the_key_follows_what_the_database_of_the_machine_is_doing(
    engine: Engine, claim: Claim | None, move: Move
) -> None:
    assert next_move(here(engine, seen(claim))) is move


def test_a_database_that_starts_or_stops_keeps_what_it_has_and_takes_nothing() -> None:
    assert next_move(here(Engine.BUSY, seen(ME), deadline=NOW + 3)) is Move.CLAIM
    assert next_move(here(Engine.BUSY, seen(None))) is Move.WATCH


def test_a_replica_claims_only_to_be_promoted_and_only_when_it_may() -> None:
    assert next_move(here(Engine.REPLICA, seen(None), promoting=True)) is Move.CLAIM
    assert next_move(here(Engine.REPLICA, seen(OTHER), promoting=True)) is Move.WATCH
    stale = seen(OTHER, since=NOW - UNCHANGED_S)
    assert next_move(here(Engine.REPLICA, stale, promoting=True)) is Move.CLAIM
    assert next_move(here(Engine.REPLICA, stale)) is Move.WATCH


@pytest.mark.parametrize("engine", [Engine.PRIMARY, Engine.BUSY])
def test_a_database_whose_deadline_has_passed_is_killed(engine: Engine) -> None:
    assert next_move(here(engine, seen(ME), deadline=NOW)) is Move.KILL
    assert next_move(here(engine, seen(ME), deadline=NOW + 0.1)) is not Move.KILL


def test_a_replica_is_not_killed_for_a_deadline_that_passed() -> None:
    assert next_move(here(Engine.REPLICA, seen(ME), deadline=NOW)) is not Move.KILL


def test_a_primary_that_sees_another_renew_is_killed_after_one_more_look() -> None:
    primary = here(Engine.PRIMARY, seen(OTHER, since=NOW), primary_since=NOW - 0.5)
    assert next_move(primary) is Move.WATCH
    assert next_move(replace(primary, primary_since=NOW - 1)) is Move.KILL


def test_a_primary_whose_lock_is_anothers_stops_renewing_and_is_killed_after_two_seconds() -> None:
    sight = replace(seen(ME, leader="lhr"), leader_since=NOW - 1.9)
    primary = here(Engine.PRIMARY, sight, primary_since=0.0, deadline=NOW + 3)
    assert next_move(primary) is Move.WATCH
    assert next_move(replace(primary, now=NOW + 0.1)) is Move.KILL
    assert next_move(here(Engine.PRIMARY, seen(ME, leader=None))) is Move.CLAIM


@given(
    st.floats(0, 3), st.floats(0, 3), st.floats(0, 5), st.floats(0.91, 1.09), st.floats(0.91, 1.09)
)
def test_no_claim_is_still_trusted_when_another_may_be_made(
    to_store: float, to_observer: float, later: float, holders_rate: float, takers_rate: float
) -> None:
    """Clocks that start anywhere and run up to 9 % fast or slow; true time is the argument."""
    sent = 0.0
    observed = sent + to_store + to_observer
    taken = observed + (UNCHANGED_S / takers_rate) + later
    sight = seen(OTHER, since=observed * takers_rate)
    assert may_claim(sight, ME, taken * takers_rate + 1e-9)
    assert is_expired(deadline_of(sent * holders_rate), taken * holders_rate)
    assert UNCHANGED_S > VALID_S


def test_the_boot_clock_reads_the_file_that_the_database_reads(tmp_path: Path) -> None:
    uptime = tmp_path / "uptime"
    assert not BootClock(uptime).is_there()
    with pytest.raises(UnsupportedError, match="uptime cannot be read"):
        BootClock(uptime).seconds()
    uptime.write_text("13637.92 20000.00\n")
    assert BootClock(uptime).seconds() == 13637.92


def test_the_deadline_in_the_file_counts_from_when_the_written_attempt_was_sent(
    tmp_path: Path,
) -> None:
    path = tmp_path / "primacy"
    deadline = PrimacyDeadline(path, draft=tmp_path / "draft")
    deadline.sends(1, 10.0)
    deadline.sends(2, 11.0)
    assert deadline.was_written(2, 12.0)
    assert not deadline.was_written(1, 12.1), "an earlier attempt must not set it back"
    assert (path.read_text(), deadline.at) == ("15.00\n", 15.0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert deadline.is_ahead(14.9)
    assert not deadline.is_ahead(15.0)


def test_after_a_withdrawal_what_was_sent_before_counts_no_more(tmp_path: Path) -> None:
    path = tmp_path / "primacy"
    deadline = PrimacyDeadline(path, draft=tmp_path / "draft")
    deadline.sends(1, 10.0)
    deadline.withdraw()
    assert not deadline.was_written(1, 10.5)
    assert not path.exists()
    assert deadline.at is None


def test_a_deadline_that_an_earlier_boot_left_is_gone_before_anything_starts(
    tmp_path: Path,
) -> None:
    path = tmp_path / "primacy"
    path.write_text("99999999.00\n")
    PrimacyDeadline(path, draft=tmp_path / "draft")
    assert not path.exists()
