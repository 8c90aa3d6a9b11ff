"""Everything that would make the loss of a region a person's business is said, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from viral_engine.operations.protection import BY_HAND, fails_over_by_hand, protection


def voices(**leads: bool | None) -> dict[str, Any]:
    leader = next((region for region, leading in leads.items() if leading), None)
    return {"leader": leader, "members": [{"region": r, "leader": v} for r, v in leads.items()]}


THREE = voices(iad=False, lhr=False, yyz=True)


def answers(
    *, etcd: dict[str, Any] | None = None, state: str = "streaming", synchronous: bool = True,
    paused: bool = False,
) -> list[dict[str, Any]]:  # fmt: skip
    members = [
        {"region": "iad", "role": "primary", "state": "running", "synchronous": False},
        {"region": "lhr", "role": "replica", "state": state, "synchronous": synchronous},
    ]
    told = {"members": members, "etcd": etcd or THREE, "paused": paused}
    return [
        {"region": "iad", "role": "primary", **told},
        {"region": "lhr", "role": "replica", **told},
    ]


def test_two_regions_with_a_witness_are_protected() -> None:
    assert protection(answers()) == {"protection": "two-regions", "protection_reasons": []}


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (answers(state="starting"), "iad holds the data alone"),
        (answers()[:1], "iad holds the data alone"),
        (answers(synchronous=False), "there is no synchronous standby"),
        (answers(paused=True), "Patroni is paused: it promotes nothing"),
        (answers(etcd=voices(iad=True)), BY_HAND),
        (answers(etcd=voices(iad=False, lhr=True, yyz=None)),
         "etcd does not answer in yyz: with one more it has no majority"),
        (answers(etcd=voices(iad=None, lhr=False, yyz=None)),
         "etcd has no majority: nobody can be promoted"),
        (answers()[1:], "no region has a primary: writes wait"),
    ],
)  # fmt: skip
def test_each_loss_has_its_reason(found: list[dict[str, Any]], reason: str) -> None:
    judged = protection(found)
    assert judged == {"protection": "degraded", "protection_reasons": [reason]}


def test_nobody_who_answers_is_degraded_and_no_error() -> None:
    silent = [{"region": "iad", "role": "unknown", "error": "silent"}]
    assert protection(silent)["protection"] == "degraded"
    assert protection([])["protection"] == "degraded"


@pytest.mark.parametrize(
    ("databases", "witnesses", "by_hand"),
    [(1, 0, False), (2, 1, False), (2, 0, True), (3, 0, False), (4, 0, True), (4, 1, False)],
)
def test_an_even_number_of_votes_is_one_vote(databases: int, witnesses: int, by_hand: bool) -> None:
    assert fails_over_by_hand(databases, witnesses) is by_hand
