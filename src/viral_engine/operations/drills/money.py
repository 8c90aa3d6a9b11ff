"""Money that is moved: no read of all balances sees more or less of it, and every sum adds up."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

from viral_engine.operations.drills.attempts import join_attempts
from viral_engine.operations.drills.history import Kind, Operation, Outcome, by_key
from viral_engine.operations.drills.verdict import Finding, Verdict, ruled

__all__ = ["Money", "check_bank", "check_counter"]


class Money(StrEnum):
    """What can be wrong with balances."""

    TOTAL = "total"
    OVERDRAWN = "overdrawn"
    ACCOUNTS = "accounts"
    TOO_LITTLE = "too-little"
    TOO_MUCH = "too-much"


def check_bank(history: Iterable[Operation], *, accounts: frozenset[str], total: int) -> Verdict:
    """Return whether every read of all balances found all accounts, none below zero, and the total.

    A read is an operation whose steps found one balance of each account.
    """
    reads = [one for one in history if one.kind is Kind.READ and one.outcome is Outcome.OK]
    findings = [finding for one in reads for finding in _in_balances(one, accounts, total)]
    return ruled(findings, checked=len(reads))


def _in_balances(read: Operation, accounts: frozenset[str], total: int) -> Iterator[Finding]:
    found = {step.key: _balance(step.found) for step in read.steps}
    if found.keys() != accounts or len(read.steps) != len(accounts):
        sentence = f"{read} found {len(read.steps)} accounts and there are {len(accounts)}"
        yield Finding(Money.ACCOUNTS, sentence, (read,))
        return
    if sum(found.values()) != total:
        sentence = f"{read} found {sum(found.values())} in all and there is {total}"
        yield Finding(Money.TOTAL, sentence, (read,))
    for account, balance in found.items():
        if balance < 0:
            yield Finding(Money.OVERDRAWN, f"{read} found {balance} in {account!r}", (read,))


def _balance(found: Sequence[object] | None) -> int:
    (balance,) = found or (0,)
    assert isinstance(balance, int)
    return balance


@dataclass(frozen=True, slots=True)
class _Sums:
    """How much was added by when, from the sorted times of additions."""

    times: Sequence[int]
    sums: Sequence[int]

    @classmethod
    def of(cls, additions: Iterable[tuple[int, int]]) -> _Sums:
        given = sorted(additions)
        sums = accumulate((amount for _, amount in given), initial=0)
        return cls([time for time, _ in given], list(sums))

    def before(self, time: int) -> int:
        return self.sums[bisect_left(self.times, time)]

    @property
    def all(self) -> int:
        return self.sums[-1]


def check_counter(history: Iterable[Operation], final: Mapping[str, Mapping[str, int]]) -> Verdict:
    """Return whether every counter held what was added to it, at each read and at the end.

    Every write adds what it wrote, once, however often it was tried with its idempotency key. A
    read holds at least what was acknowledged before its call and at most what was asked for before
    its answer. ``final`` has what was found of each counter after all was healed, by region.
    """
    findings: list[Finding] = []
    checked = 0
    for key, operations in by_key(join_attempts(history)):
        possible = [one for one in operations if _may_count(one)]
        asked = _Sums.of((one.called_at, _amount(one)) for one in possible)
        certain = _Sums.of(
            (one.returned_at, _amount(one))
            for one in possible
            if one.outcome is Outcome.OK and one.returned_at is not None
        )
        reads = [one for one in operations if one.kind is Kind.READ and one.outcome is Outcome.OK]
        for read in reads:
            low, high = certain.before(read.called_at), asked.before(_end(read) + 1)
            findings += _outside(read.found, low, high, str(read), (read,))
        for region, counters in sorted(final.items()):
            what = f"the end in {region} found {counters.get(key)!r} in {key!r}"
            findings += _outside(counters.get(key), certain.all, asked.all, what, ())
        checked += len(reads) + len(final)
    return ruled(findings, checked=checked)


def _may_count(operation: Operation) -> bool:
    return operation.kind is not Kind.READ and operation.outcome is not Outcome.FAIL


def _end(read: Operation) -> int:
    assert read.returned_at is not None
    return read.returned_at


def _amount(operation: Operation) -> int:
    assert isinstance(operation.written, int)
    return operation.written


def _outside(
    found: object, low: int, high: int, what: str, operations: tuple[Operation, ...]
) -> Iterator[Finding]:
    value = found if isinstance(found, int) else 0
    if value < low:
        yield Finding(Money.TOO_LITTLE, f"{what}; {low} were acknowledged before", operations)
    elif value > high:
        yield Finding(Money.TOO_MUCH, f"{what}; no more than {high} were asked for", operations)
