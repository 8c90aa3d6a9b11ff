"""Retries: several requests, one effect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from viral_engine.operations.drills.history import Kind, Operation, Outcome

__all__ = ["join_attempts"]


def join_attempts(history: Iterable[Operation]) -> list[Operation]:
    """Return the history with all attempts of one idempotency key on one key as one write.

    It lasts from the call of the first attempt that was not refused to the first answer that
    acknowledges it. Reads, and what has no idempotency key, stay as they are.
    """
    joined: list[Operation] = []
    attempts: dict[tuple[str, str], list[Operation]] = {}
    for one in history:
        if one.kind is Kind.READ or not one.idempotency_key:
            joined.append(one)
        else:
            attempts.setdefault((one.key, one.idempotency_key), []).append(one)
    joined += map(_as_one, attempts.values())
    return sorted(joined, key=lambda one: (one.called_at, one.index))


def _as_one(attempts: Sequence[Operation]) -> Operation:
    possible = [one for one in attempts if one.outcome is not Outcome.FAIL] or attempts
    called_at = min(one.called_at for one in possible)
    acknowledged = [one for one in possible if one.outcome is Outcome.OK]
    if not acknowledged:
        return replace(possible[0], called_at=called_at)
    first = min(acknowledged, key=lambda one: one.returned_at or one.called_at)
    return replace(first, called_at=called_at)
