"""What an estimate assumes where nothing is declared: each with a name, a bound and a reason."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, get_type_hints

from viral_engine.errors import MisuseError
from viral_engine.topology.regions import region

__all__ = ["Assumptions", "describe"]

USERS = "users."
MANY = Decimal(1_000_000_000)


@dataclass(frozen=True, slots=True)
class Assumed:
    """What an assumption is, in words, and the most that it can be."""

    words: str
    most: Decimal = MANY


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """The amounts that an estimate stands on; change them by ``assume``."""

    requests_per_second: Annotated[
        Decimal, Assumed("requests of all users, the mean of a whole month")
    ] = Decimal(5)
    response_kb: Annotated[Decimal, Assumed("size of an answer, in kB of 1000 bytes")] = Decimal(10)
    writes: Annotated[
        Decimal, Assumed("fraction of requests that write: the primary region answers", Decimal(1))
    ] = Decimal("0.1")
    strong_reads: Annotated[
        Decimal, Assumed("fraction that reads strongly: the primary region answers", Decimal(1))
    ] = Decimal("0.05")
    wal_kb: Annotated[
        Decimal, Assumed("kB of log that a write sends to each other data region")
    ] = Decimal(8)
    database_gb: Annotated[
        Decimal, Assumed("GB of data, which the snapshots of each region hold")
    ] = Decimal(1)
    root_gb: Annotated[
        Decimal, Assumed("GB of a stopped machine's root file system: the image", Decimal(1000))
    ] = Decimal(1)
    load: Annotated[
        Decimal, Assumed("how far app machines are between `min` (0) and `max` (1)", Decimal(1))
    ] = Decimal(0)
    dedicated_ipv4: Annotated[Decimal, Assumed("IPv4 addresses of its own", Decimal(1000))] = (
        Decimal(0)
    )
    users: Mapping[str, Decimal] = field(default_factory=dict)
    """Weights of the regions whose users they are; equal where nothing is said."""

    def assume(self, changes: Iterable[str]) -> Assumptions:
        """Return these with changes such as ``writes=0.3`` or ``users.lhr=3``; MisuseError else."""
        changed = self
        for change in changes:
            name, equals, text = change.partition("=")
            if not equals:
                raise MisuseError(
                    f'"{change}" assumes nothing', suggestion="Write it as in: --assume writes=0.3"
                )
            changed = changed._with(name.strip(), text.strip())
        if changed.writes + changed.strong_reads > 1:
            raise MisuseError(
                "writes and strong_reads together are more than all requests",
                suggestion="They are fractions of requests: their sum is at most 1.",
            )
        return changed

    def _with(self, name: str, text: str) -> Assumptions:
        if name.startswith(USERS):
            code = region(name.removeprefix(USERS)).code
            weight = _amount(name, text, MANY)
            return replace(self, users={**self.users, code: weight})
        known = _assumed()
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            meant = f'Did you mean "{close[0]}"? ' if close else ""
            raise MisuseError(
                f'nothing is assumed by the name "{name}"',
                suggestion=f"{meant}The names are: {', '.join(known)}, users.REGION.",
            )
        changes: dict[str, Any] = {name: _amount(name, text, known[name].most)}
        return replace(self, **changes)


def describe() -> Mapping[str, tuple[Decimal, str]]:
    """Return each assumption by its name, with its default and what it is."""
    default = Assumptions()
    found = {name: (getattr(default, name), one.words) for name, one in _assumed().items()}
    return {**found, "users.REGION": (Decimal(1), "weight of a region's users among all")}


@functools.cache
def _assumed() -> Mapping[str, Assumed]:
    hints = get_type_hints(Assumptions, include_extras=True)
    return {
        name: one
        for name, hint in hints.items()
        for one in getattr(hint, "__metadata__", ())
        if isinstance(one, Assumed)
    }


def _amount(name: str, text: str, most: Decimal) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(-1)
    if not value.is_finite() or not 0 <= value <= most:
        raise MisuseError(
            f'{name} is "{text}"', suggestion=f"Write a number from 0 to {most:,}, as in: {name}=1"
        )
    return value
