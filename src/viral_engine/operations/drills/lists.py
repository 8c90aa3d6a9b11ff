"""Lists to which transactions append, several at a time: is there an order that explains what they read?

The inference is that of Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from
Experimental Observations" (PVLDB 14, 2020); anomalies have the names of Adya's thesis (MIT, 1999).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from viral_engine.errors import MisuseError
from viral_engine.operations.drills.dependencies import By, Cycle, Lists, dependencies, find_cycle
from viral_engine.operations.drills.history import Operation, Outcome, Step, Value
from viral_engine.operations.drills.verdict import Finding, Verdict, ruled

__all__ = ["Anomaly", "check_lists"]


class Anomaly(StrEnum):
    """What no order of transactions explains; of cycles the mildest that breaks it comes last."""

    PHANTOM = "phantom"
    DUPLICATE = "duplicate"
    INCOMPATIBLE_ORDER = "incompatible-order"
    INTERNAL = "internal"
    ABORTED_READ = "G1a"
    INTERMEDIATE_READ = "G1b"
    WRITE_CYCLE = "G0"
    CIRCULAR_FLOW = "G1c"
    NO_SNAPSHOT = "G-nonadjacent"
    ANTI_DEPENDENCY = "G2-item"
    WRITE_CYCLE_IN_TIME = "G0-realtime"
    CIRCULAR_FLOW_IN_TIME = "G1c-realtime"
    NO_SNAPSHOT_IN_TIME = "G-nonadjacent-realtime"
    ANTI_DEPENDENCY_IN_TIME = "G2-item-realtime"


@dataclass(frozen=True, slots=True)
class _CycleClass:
    """A cycle of ``edges``; ``apart``: of its reads-before-writes no two follow each other."""

    anomaly: Anomaly
    edges: frozenset[By]
    apart: bool = False


_WRITES = frozenset({By.WRITE})
_FLOWS = frozenset({By.WRITE, By.READ})
_ALL = frozenset({By.WRITE, By.READ, By.OVERWRITE})
_TIME = frozenset({By.TIME})
_CLASSES = (
    _CycleClass(Anomaly.WRITE_CYCLE, _WRITES),
    _CycleClass(Anomaly.CIRCULAR_FLOW, _FLOWS),
    _CycleClass(Anomaly.NO_SNAPSHOT, _ALL, apart=True),
    _CycleClass(Anomaly.ANTI_DEPENDENCY, _ALL),
    _CycleClass(Anomaly.WRITE_CYCLE_IN_TIME, _WRITES | _TIME),
    _CycleClass(Anomaly.CIRCULAR_FLOW_IN_TIME, _FLOWS | _TIME),
    _CycleClass(Anomaly.NO_SNAPSHOT_IN_TIME, _ALL | _TIME, apart=True),
    _CycleClass(Anomaly.ANTI_DEPENDENCY_IN_TIME, _ALL | _TIME),
)


def check_lists(history: Iterable[Operation], *, in_real_time: bool = True) -> Verdict:
    """Return whether transactions happened one after another, by default also as time had it.

    A transaction is an operation with steps. One of unknown outcome counts once somebody read what
    it appended. What is wrong with single reads is all named; of cycles the gravest. Raises
    MisuseError where a value is appended to a list twice.
    """
    transactions = sorted((one for one in history if one.steps), key=lambda one: one.called_at)
    appends = _appends(transactions)
    lists = Lists.of(transactions, appends)
    findings = [
        finding
        for one in transactions
        if one.outcome is Outcome.OK
        for finding in _faults(one, lists, appends)
    ]
    cycle = _gravest(lists, in_real_time=in_real_time)
    return ruled([*findings, *cycle], checked=len(lists.happened))


Appends = Mapping[tuple[str, Value], Operation]


def _appends(transactions: Iterable[Operation]) -> Appends:
    found: dict[tuple[str, Value], Operation] = {}
    for one in transactions:
        for step in one.steps:
            if step.found is not None:
                continue
            if (step.key, step.appended) in found:
                raise MisuseError(f"Every value is appended once, got it again: {one}.")
            found[step.key, step.appended] = one
    return found


def _gravest(lists: Lists, *, in_real_time: bool) -> Iterator[Finding]:
    edges = list(dependencies(lists))
    for kind in _CLASSES:
        if By.TIME in kind.edges and not in_real_time:
            return
        cycle = find_cycle((one for one in edges if one.by in kind.edges), apart=kind.apart)
        if cycle is not None:
            yield _told(kind.anomaly, cycle, lists.happened)
            return


def _told(anomaly: Anomaly, cycle: Cycle, happened: Sequence[Operation]) -> Finding:
    shown = [happened[number] for number in cycle.transactions(len(happened))]
    return Finding(anomaly, cycle.sentence(happened), tuple(shown))


def _faults(transaction: Operation, lists: Lists, appends: Appends) -> Iterator[Finding]:
    """Yield what is wrong with the reads of one transaction, each by itself."""
    own: dict[str, tuple[Value, ...]] = {}
    known: dict[str, tuple[Value, ...]] = {}
    for step in transaction.steps:
        key, found = step.key, step.found
        if found is None:
            own[key] = (*own.get(key, ()), step.appended)
            if key in known:
                known[key] = (*known[key], step.appended)
            continue
        for anomaly, sentence in _in_read(step, lists):
            yield Finding(anomaly, f"{transaction} {sentence}", (transaction,))
        yield from _of_others(transaction, step, appends)
        mine = own.get(key, ())
        if found != known.get(key, found) or found[len(found) - len(mine) :] != mine:
            sentence = f"{transaction} found in {key!r} what it had not left there itself"
            yield Finding(Anomaly.INTERNAL, sentence, (transaction,))
        known[key] = found


def _in_read(step: Step, lists: Lists) -> Iterator[tuple[Anomaly, str]]:
    found = step.found or ()
    if len(set(found)) < len(found):
        yield Anomaly.DUPLICATE, f"found a value twice in {step.key!r}"
    elif found != lists.longest[step.key][: len(found)]:
        longest = Step(step.key, found=lists.longest[step.key])
        yield Anomaly.INCOMPATIBLE_ORDER, f"goes with no order in which another {longest}"


def _of_others(transaction: Operation, step: Step, appends: Appends) -> Iterator[Finding]:
    found = step.found or ()
    for value in found:
        writer = appends.get((step.key, value))
        if writer is None:
            sentence = f"{transaction} found {value!r} in {step.key!r}, which nobody appended"
            yield Finding(Anomaly.PHANTOM, sentence, (transaction,))
        elif writer.outcome is Outcome.FAIL:
            sentence = f"{transaction} found {value!r} in {step.key!r}, which was refused: {writer}"
            yield Finding(Anomaly.ABORTED_READ, sentence, (writer, transaction))
    last = appends.get((step.key, found[-1])) if found else None
    if last and last is not transaction and _last_of(last, step.key) != found[-1]:
        sentence = f"{transaction} found the middle of a transaction in {step.key!r}: {last}"
        yield Finding(Anomaly.INTERMEDIATE_READ, sentence, (last, transaction))


def _last_of(transaction: Operation, key: str) -> Value:
    appended = [s.appended for s in transaction.steps if s.key == key and s.found is None]
    return appended[-1]
