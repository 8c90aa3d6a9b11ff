from __future__ import annotations

from viral_engine.cluster import Role
from viral_engine.cluster.view import Answer, Observation, build_view
from viral_engine.lsn import Lsn


def _saw(region: str, *, in_recovery: bool, timeline: int = 1, at: float = 10) -> Observation:
    answer = Answer(in_recovery=in_recovery, timeline=timeline, lsn=Lsn(7), lag_seconds=0.0)
    return Observation(region, at, answer)


def test_of_two_that_claim_to_be_primary_the_later_promoted_one_is() -> None:
    old = _saw("iad", in_recovery=False, timeline=1)
    new = _saw("lhr", in_recovery=False, timeline=2)
    view = build_view(["iad", "lhr"], [old, new], now=10, fresh_for=3)
    assert view.primary_region == "lhr"
    loser = view.node("iad")
    assert loser is not None
    assert (loser.reachable, loser.role) == (False, Role.UNKNOWN)


def test_two_primaries_on_one_timeline_are_both_mistrusted() -> None:
    both = [_saw("iad", in_recovery=False), _saw("lhr", in_recovery=False)]
    view = build_view(["iad", "lhr"], both, now=10, fresh_for=3)
    assert view.primary_region is None
    assert not any(node.reachable for node in view.nodes)


def test_an_old_answer_is_never_shown_as_if_it_held() -> None:
    view = build_view(["iad"], [_saw("iad", in_recovery=False, at=6)], now=10, fresh_for=3)
    assert view.primary_region is None
    assert view.nodes[0].lag_seconds is None
    assert view.nodes[0].reason == "last answer is too old"


def test_a_region_that_was_never_asked_is_unreachable() -> None:
    view = build_view(["lhr", "iad"], [], now=0, fresh_for=3)
    assert [(node.region, node.reachable) for node in view.nodes] == [
        ("iad", False),
        ("lhr", False),
    ]
