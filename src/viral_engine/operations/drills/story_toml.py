"""Stories as they are written down: TOML in, a story or every fault in it out. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from viral_engine.errors import MisuseError
from viral_engine.operations.drills.story import PHASE, ROLES, Act, Draw, Expect, Story

__all__ = ["parse"]

PARTS = ("postgres", "patroni", "replay", "etcd", "valkey")
GROUPS = ("app", "database", "cache", "witness", "edge")
MOVES = ("yes", "no", "either")
NUMBERS = ("failed", "failed_reads", "share", "write_gap_s")
ANY = "any"
"""In place of a number: there is no target."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """What an act is given: how many roles, whether it lasts, of what, and an amount."""

    places: tuple[int, ...]
    lasts: bool = True
    what: tuple[str, ...] = ()
    amount: bool = False


KINDS: Mapping[str, _Shape] = {
    "cut": _Shape((2,)),
    "one-way": _Shape((2,)),
    "flap": _Shape((2,), amount=True),
    "blackout": _Shape((1,)),
    "delay": _Shape((0,), amount=True),
    "loss": _Shape((0,), amount=True),
    "outage": _Shape((1,)),
    "pause": _Shape((1,)),
    "hang": _Shape((1,), what=PARTS),
    "lock": _Shape((1,)),
    "lock-for-all": _Shape((1,)),
    "long-read": _Shape((1,)),
    "cancel-commits": _Shape((1,)),
    "hang-up": _Shape((1,)),
    "alter": _Shape((1,)),
    "kill": _Shape((1,), lasts=False, what=GROUPS),
    "kill-process": _Shape((1,), lasts=False, what=PARTS),
    "switchover": _Shape((1,), lasts=False),
    "stop": _Shape((1,)),
}


def parse(text: str, *, name: str) -> Story:
    """Read one story; raises MisuseError that names the story and every fault in it."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MisuseError(f"The story {name} is not TOML: {error}.") from error
    faults = list(_faults(raw))
    if faults:
        listed = "; ".join(faults)
        raise MisuseError(f"The story {name} cannot be played: {listed}.")
    expect = dict(raw.get("expect", {}))
    for key in ("lost", "cut_off"):
        expect[key] = tuple(expect.get(key, ()))
    for key in NUMBERS:
        if expect.get(key) == ANY:
            expect[key] = None
    draw = raw.get("draw")
    return Story(
        name=name,
        sentence=raw["sentence"],
        catalogue=tuple(raw["catalogue"]),
        acts=tuple(sorted((_act(one) for one in raw.get("act", ())), key=lambda act: act.at)),
        expect=Expect(**expect),
        phase=float(raw.get("phase", PHASE)),
        draw=Draw(draw["count"], tuple(draw["among"]), draw.get("spread", 0.0)) if draw else None,
    )


def _act(raw: Mapping[str, Any]) -> Act:
    return Act(
        do=raw["do"], places=_places(raw), at=float(raw.get("at", 0)),
        lasts=float(raw.get("for", 0)), within=float(raw.get("within", 0)),
        what=raw.get("what", ""), amount=float(raw.get("amount", 0)),
    )  # fmt: skip


def _places(raw: Mapping[str, Any]) -> tuple[str, ...]:
    given = raw.get("in", ())
    return (given,) if isinstance(given, str) else tuple(given)


_KEYS = {"sentence", "catalogue", "phase", "act", "expect", "draw"}
_ACT_KEYS = {"do", "in", "at", "for", "within", "what", "amount"}


def _faults(raw: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown(raw, _KEYS, "")
    sentence, catalogue = raw.get("sentence"), raw.get("catalogue")
    if not isinstance(sentence, str) or not sentence.endswith("."):
        yield "sentence must be a sentence that ends with a full stop"
    if not isinstance(catalogue, list) or not all(isinstance(one, int) for one in catalogue):
        yield "catalogue must be a list of numbers"
    acts = raw.get("act", [])
    for number, act in enumerate(acts, start=1):
        yield from (f"act {number}: {fault}" for fault in _faults_of_act(act))
    yield from _faults_of_expect(raw.get("expect", {}))
    draw = raw.get("draw")
    if draw is not None:
        yield from _unknown(draw, {"count", "among", "spread"}, "draw: ")
        if not 0 < draw.get("count", 0) <= len(draw.get("among", ())):
            yield "draw: count must be at least 1 and at most the number of stories in among"


def _faults_of_act(act: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown(act, _ACT_KEYS, "")
    shape = KINDS.get(str(act.get("do")))
    if shape is None:
        yield _not_one_of("do", act.get("do"), KINDS)
        return
    yield from _faults_of_places(act, shape)
    for key in ("at", "for", "within", "amount"):
        given = act.get(key, 0)
        if isinstance(given, bool) or not isinstance(given, int | float) or given < 0:
            yield f"{key} must be a number of at least 0, not {given!r}"
    for key, is_taken in (("for", shape.lasts), ("amount", shape.amount), ("what", shape.what)):
        if bool(is_taken) != (key in act):
            yield f"{act['do']} {'needs' if is_taken else 'takes no'} {key}"
    if shape.what and "what" in act and act["what"] not in shape.what:
        yield _not_one_of("what", act["what"], shape.what)


def _faults_of_places(act: Mapping[str, Any], shape: _Shape) -> Iterator[str]:
    places = _places(act)
    if len(places) not in shape.places or len(set(places)) != len(places):
        counts = " or ".join(map(str, shape.places))
        yield f"{act['do']} takes {counts} different roles under in, not {len(places)}"
    yield from (_not_one_of("in", place, ROLES) for place in places if place not in ROLES)
    if "others" in places and len(places) != 2:
        yield "others stands beside another role"


def _faults_of_expect(expect: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown(expect, set(Expect.__dataclass_fields__), "expect: ")
    if expect.get("moves", "no") not in MOVES:
        yield _not_one_of("expect: moves", expect["moves"], MOVES)
    for key in NUMBERS:
        given = expect.get(key, ANY)
        if given != ANY and (isinstance(given, bool) or not isinstance(given, int | float)):
            yield f"expect: {key} must be a number or {ANY!r}, not {given!r}"
    for key in ("lost", "cut_off"):
        for role in expect.get(key, ()):
            if role not in ROLES:
                yield _not_one_of(f"expect: {key}", role, ROLES)


def _unknown(raw: Mapping[str, Any], known: Collection[str], where: str) -> Iterator[str]:
    for key in raw:
        if key not in known:
            yield _not_one_of(f"{where}the key", key, known)


def _not_one_of(what: str, given: object, known: Iterable[str]) -> str:
    return f"{what} is {given!r}, and must be one of {', '.join(sorted(known))}"
