from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viral_engine.cluster.succession import (
    Evidence,
    Move,
    next_step,
    standbys_of,
    why_not_allowed,
)

LOST = Evidence(
    here="yyz", leader="iad", holder="iad", unrenewed_s=2.6, synchronous=("lhr",),
    not_allowed="", silent_looks=2, streams=(False,),
)  # fmt: skip
PATRONI = {"ttl": 20, "synchronous_mode": "on"}


def test_a_primary_that_two_sites_have_lost_loses_its_lock() -> None:
    assert next_step(LOST).move is Move.REVOKE


@pytest.mark.parametrize(
    ("seen", "move"),
    [
        (replace(LOST, unrenewed_s=1.0), Move.WATCH),
        (replace(LOST, unrenewed_s=2.0), Move.LOOK),
        (replace(LOST, silent_looks=1), Move.LOOK),
        (replace(LOST, leader=None), Move.WATCH),
        (replace(LOST, here="iad"), Move.WATCH),
        (replace(LOST, here="lhr"), Move.WATCH),
    ],
)
def test_while_anything_speaks_for_the_primary_it_is_only_watched(
    seen: Evidence, move: Move
) -> None:
    assert next_step(seen).move is move


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (replace(LOST, streams=(True,)), "disagree"),
        (replace(LOST, streams=(False, True)), "disagree"),
        (replace(LOST, streams=()), "does not answer"),
        (replace(LOST, synchronous=()), "no synchronous standby"),
        (replace(LOST, holder="lhr"), "primacy is lhr's"),
        (replace(LOST, holder=None), "primacy is nobody's"),
        (replace(LOST, not_allowed="automatic failover is paused"), "paused"),
    ],
)
def test_what_forbids_it_is_said(seen: Evidence, reason: str) -> None:
    step = next_step(seen)
    assert step.move is Move.REFUSE
    assert reason in step.reason


@given(
    here=st.sampled_from(("iad", "lhr", "yyz")),
    leader=st.sampled_from((None, "iad", "lhr")),
    holder=st.sampled_from((None, "iad", "lhr")),
    unrenewed_s=st.floats(0, 10),
    synchronous=st.sets(st.sampled_from(("iad", "lhr"))),
    not_allowed=st.sampled_from(("", "it is paused")),
    silent_looks=st.integers(0, 5),
    streams=st.lists(st.booleans(), max_size=2),
)
def test_no_lock_is_revoked_while_one_witness_speaks_for_the_primary(**seen: object) -> None:
    evidence = Evidence(**seen)  # type: ignore[arg-type]
    if next_step(evidence).move is not Move.REVOKE:
        return
    assert evidence.here not in {evidence.leader, *evidence.synchronous}
    assert evidence.holder == evidence.leader
    assert evidence.unrenewed_s >= 2.5
    assert evidence.silent_looks >= 2
    assert evidence.streams
    assert not any(evidence.streams)
    assert not evidence.not_allowed


def test_a_pause_and_asynchronous_replication_forbid_it() -> None:
    assert why_not_allowed(json.dumps(PATRONI)) == ""
    assert "paused" in why_not_allowed(json.dumps({**PATRONI, "pause": True}))
    assert "synchronous_mode" in why_not_allowed(json.dumps({**PATRONI, "synchronous_mode": "off"}))
    assert "synchronous_mode" in why_not_allowed(None)
    assert "synchronous_mode" in why_not_allowed("no json")


def test_a_note_of_another_primary_names_no_standby_of_this_one() -> None:
    note = json.dumps({"leader": "iad", "sync_standby": "lhr,nrt"})
    assert standbys_of(note, leader="iad") == {"lhr", "nrt"}
    assert standbys_of(note, leader="lhr") == frozenset()
    assert standbys_of(json.dumps({"leader": "iad", "sync_standby": None}), leader="iad") == set()
    assert standbys_of(None, leader="iad") == frozenset()
