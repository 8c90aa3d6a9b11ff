"""What may happen once only: one effect of many tries with one key, one owner of one name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum

from viral_engine.operations.drills.durable import check_set
from viral_engine.operations.drills.history import Kind, Operation, Outcome, Value
from viral_engine.operations.drills.verdict import Finding, Verdict, all_of, ruled

__all__ = ["Once", "check_owners", "check_storm", "overlaps"]


class Once(StrEnum):
    """What can be wrong with what happens once."""

    TWO_ANSWERS = "two-answers"
    OTHER_EFFECT = "other-effect"
    TWO_OWNERS = "two-owners"
    NO_OWNER = "no-owner"
    OTHER_OWNER = "other-owner"
    REFUSED_FOR_NOBODY = "refused-for-nobody"
    OWNED_WITHOUT_ASKING = "owned-without-asking"
    OWNERS_DIFFER = "owners-differ"


Effects = Mapping[str, Sequence[tuple[Value, Value]]]
"""What is there at the end, by region: the name that was asked for, and the id that it got."""


def check_storm(history: Iterable[Operation], final: Effects) -> Verdict:
    """Return whether each idempotency key had one effect, whoever sent it, however often and where.

    Every good answer must name one and the same effect, in ``found``, and that must be what is there
    at the end, once, in every region.
    """
    operations = list(history)
    findings = [
        finding
        for key, tries in _by_name(operations, lambda one: one.idempotency_key).items()
        for finding in _answers(key, tries, final)
    ]
    names = {region: [name for name, _ in effects] for region, effects in final.items()}
    return all_of([ruled(findings, checked=len(operations)), check_set(operations, names)])


def _answers(key: Value, tries: Sequence[Operation], final: Effects) -> Iterator[Finding]:
    good = {one.found: one for one in tries if one.outcome is Outcome.OK}
    if len(good) > 1:
        shown = tuple(good.values())
        yield Finding(Once.TWO_ANSWERS, f"{key!r} was answered with {len(good)} effects", shown)
    for region, effects in sorted(final.items()):
        there = {effect for name, effect in effects if name == key}
        if good and there and not there & set(good):
            sentence = f"the effect of {key!r} in {region} is not what was answered"
            yield Finding(Once.OTHER_EFFECT, sentence, tuple(good.values()))


def check_owners(history: Iterable[Operation], final: Effects) -> Verdict:
    """Return whether each name that several wanted at once got one owner, and the others a refusal.

    A cas asks for the name that is its key; its ``found`` is the owner's id, and ``mismatched`` says
    that somebody else has it.
    """
    operations = [one for one in history if one.kind is not Kind.READ]
    findings = [
        finding
        for name, tries in _by_name(operations, lambda one: one.key).items()
        for finding in (*_owners(name, tries), *_kept(name, tries, final))
    ]
    return ruled(findings, checked=len(operations) if final else 0)


def _owners(name: Value, tries: Sequence[Operation]) -> Iterator[Finding]:
    good = tuple({one.found: one for one in tries if one.outcome is Outcome.OK}.values())
    if len(good) > 1:
        yield Finding(Once.TWO_OWNERS, f"{name!r} was given to {len(good)}", good)
    refused = tuple(one for one in tries if one.mismatched)
    possible = [one for one in tries if one.outcome is not Outcome.FAIL]
    if refused and not possible:
        sentence = f"{name!r} was taken, and nobody can have taken it"
        yield Finding(Once.REFUSED_FOR_NOBODY, sentence, refused)


def _kept(name: Value, tries: Sequence[Operation], final: Effects) -> Iterator[Finding]:
    good = {one.found: one for one in tries if one.outcome is Outcome.OK}
    owners = {
        region: [effect for one, effect in effects if one == name]
        for region, effects in sorted(final.items())
    }
    if any(owners.values()) and all(one.outcome is Outcome.FAIL for one in tries):
        sentence = f"{name!r} was refused to all who asked, and has an owner"
        yield Finding(Once.OWNED_WITHOUT_ASKING, sentence, tuple(tries))
    if len({frozenset(there) for there in owners.values()}) > 1:
        sentence = f"{name!r} has not the same owner everywhere: {owners}"
        yield Finding(Once.OWNERS_DIFFER, sentence, tuple(tries))
    for region, there in owners.items():
        if len(there) > 1:
            yield Finding(Once.TWO_OWNERS, f"{name!r} has {len(there)} in {region}", tuple(tries))
        elif good and not there:
            sentence = f"{name!r} was given and has nobody in {region}"
            yield Finding(Once.NO_OWNER, sentence, tuple(good.values()))
        elif good and there[0] not in good:
            sentence = f"{name!r} in {region} is not who got it"
            yield Finding(Once.OTHER_OWNER, sentence, tuple(good.values()))


def overlaps(history: Iterable[Operation]) -> int:
    """Count the keys and names that were asked for in several regions at one time."""
    names = _by_name(list(history), lambda one: one.idempotency_key or one.key)
    return sum(any(_at_once(tries)) for tries in names.values())


def _at_once(tries: Sequence[Operation]) -> Iterator[bool]:
    for one in tries:
        for other in tries:
            began_within = one.called_at <= other.called_at < (one.returned_at or one.called_at + 1)
            yield one.region_asked != other.region_asked and began_within


def _by_name(
    history: Iterable[Operation], name: Callable[[Operation], str]
) -> dict[str, list[Operation]]:
    found: dict[str, list[Operation]] = {}
    for one in history:
        found.setdefault(name(one), []).append(one)
    return found
