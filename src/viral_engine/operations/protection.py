"""Whether the loss of any one region is survived without a person, and if not, why not: pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PROTECTED, DEGRADED = "two-regions", "degraded"

BY_HAND = "there is no witness: failover is by hand"


def protection(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Judge by what each database machine answered to ``viral node ctl status``."""
    reasons = list(_reasons(answers))
    return {
        "protection": DEGRADED if reasons else PROTECTED,
        "protection_reasons": reasons,
    }


def fails_over_by_hand(databases: int, witnesses: int) -> bool:
    """Whether etcd has a single voice, in the primary's region, since no majority could be had."""
    return databases > 1 and (databases + witnesses) % 2 == 0


def _reasons(answers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    primary = next((one for one in answers if one.get("role") == "primary"), None)
    told = primary or next((one for one in answers if one.get("etcd")), {})
    if primary is None:
        yield "no region has a primary: writes wait"
    else:
        yield from _copies(answers, primary)
    yield from _votes(answers, (told.get("etcd") or {}))
    if told.get("paused"):
        yield "Patroni is paused: it promotes nothing"


def _copies(answers: Sequence[Mapping[str, Any]], primary: Mapping[str, Any]) -> Iterator[str]:
    replicas = [one for one in primary.get("members") or () if one.get("role") == "replica"]
    here = {one["region"] for one in answers if one.get("role") == "replica"}
    streaming = [one for one in replicas if one.get("state") == "streaming"]
    if not streaming or not here:
        yield f"{primary['region']} holds the data alone"
    elif not any(one.get("synchronous") for one in streaming):
        yield "there is no synchronous standby"


def _votes(answers: Sequence[Mapping[str, Any]], etcd: Mapping[str, Any]) -> Iterator[str]:
    voices = etcd.get("members") or ()
    silent = [one["region"] for one in voices if one.get("leader") is None]
    if etcd.get("leader") is None:  # one without a majority steps down
        yield "etcd has no majority: nobody can be promoted"
    elif silent:
        yield f"etcd does not answer in {', '.join(silent)}: with one more it has no majority"
    if len(voices) == 1 and len(answers) > 1:
        yield BY_HAND
