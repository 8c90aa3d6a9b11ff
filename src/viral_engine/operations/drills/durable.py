"""Durability: what was acknowledged is there at the end, in every region, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from viral_engine.operations.drills.history import Kind, Operation, Outcome, Value
from viral_engine.operations.drills.verdict import Finding, Verdict, ruled

__all__ = ["Durability", "check_set"]


class Durability(StrEnum):
    """What can be wrong with the elements that are found at the end."""

    LOST = "lost"
    PHANTOM = "phantom"
    RESURRECTED = "resurrected"
    TWICE = "twice"
    DIVERGED = "diverged"


@dataclass(slots=True)
class _Attempts:
    """All attempts to add one element; a retry may succeed where the first one failed."""

    made: list[Operation] = field(default_factory=list)

    def any(self, outcome: Outcome) -> bool:
        return any(one.outcome is outcome for one in self.made)

    @property
    def were_refused(self) -> bool:
        return all(one.outcome is Outcome.FAIL for one in self.made)


def check_set(history: Iterable[Operation], final: Mapping[str, Sequence[Value]]) -> Verdict:
    """Return whether the elements found at the end are those that were added.

    ``final`` has for each region what a strong read found there after all was healed. An element
    whose addition is unknown may be there or not, but in all regions alike.
    """
    attempts: dict[Value, _Attempts] = {}
    for one in history:
        if one.kind is Kind.WRITE:
            attempts.setdefault(one.written, _Attempts()).made.append(one)
    findings = [
        finding
        for region, elements in sorted(final.items())
        for finding in _in_region(region, elements, attempts)
    ]
    findings += _between_regions(final, attempts)
    return ruled(findings, checked=len(attempts) if final else 0)


def _in_region(
    region: str, elements: Sequence[Value], attempts: Mapping[Value, _Attempts]
) -> Iterator[Finding]:
    found = Counter(elements)
    for element, tried in attempts.items():
        made = tuple(tried.made)
        if tried.any(Outcome.OK) and element not in found:
            yield _finding(
                Durability.LOST, f"{element!r} was acknowledged and is not in {region}", made
            )
        if tried.were_refused and element in found:
            yield _finding(
                Durability.RESURRECTED, f"{element!r} was refused and is in {region}", made
            )
    for element, count in found.items():
        if element not in attempts:
            yield _finding(
                Durability.PHANTOM, f"nobody added {element!r}, which is in {region}", ()
            )
        elif count > 1:
            made = tuple(attempts[element].made)
            yield _finding(Durability.TWICE, f"{element!r} is {count} times in {region}", made)


def _between_regions(
    final: Mapping[str, Sequence[Value]], attempts: Mapping[Value, _Attempts]
) -> Iterator[Finding]:
    found = {region: set(elements) for region, elements in final.items()}
    for element, tried in attempts.items():
        there = sorted(region for region, elements in found.items() if element in elements)
        if there and len(there) < len(found):
            missing = ", ".join(sorted(set(found) - set(there)))
            sentence = f"{element!r} is in {', '.join(there)} and not in {missing}"
            yield _finding(Durability.DIVERGED, sentence, tuple(tried.made))


def _finding(what: Durability, sentence: str, operations: tuple[Operation, ...]) -> Finding:
    return Finding(what, sentence, operations)
