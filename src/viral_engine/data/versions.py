"""Row versions as HTTP carries them: entity tags and preconditions (RFC 9110, 8.8.3 and 13.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "EntityTag",
    "Expected",
    "Judgement",
    "TagList",
    "is_unchanged",
    "judge",
    "parse_tags",
    "version_tag",
]

_LARGEST_VERSION = 2**63 - 1
_VERSION = re.compile(r"[1-9][0-9]{0,18}")
# One element of a list, which may be empty, and the comma or the end behind it.
_ELEMENT = re.compile(r'[ \t]*(?:(W/)?"([\x21\x23-\x7e\x80-\xff]*)"[ \t]*)?(?:,|\Z)')


@dataclass(frozen=True, slots=True)
class EntityTag:
    """An entity tag: what is between its quotes, and whether it is weak (``W/"7"``)."""

    opaque: str
    weak: bool = False

    @property
    def version(self) -> int | None:
        """The row version that this tag is; None for a weak tag, and for one that is no version."""
        if self.weak or _VERSION.fullmatch(self.opaque) is None:
            return None
        version = int(self.opaque)
        return version if version <= _LARGEST_VERSION else None

    def __str__(self) -> str:
        return f'{"W/" if self.weak else ""}"{self.opaque}"'


@dataclass(frozen=True, slots=True)
class TagList:
    """What an ``If-Match`` or ``If-None-Match`` names: some tags, or with ``*`` whatever is there."""

    tags: tuple[EntityTag, ...] = ()
    anything: bool = False


@dataclass(frozen=True, slots=True)
class Expected:
    """Which version a client means to change: by ``If-Match``, by the body, by both or by neither."""

    tags: TagList | None = None
    version: int | None = None

    def versions(self) -> tuple[int, ...] | None:
        """Return the versions that may be replaced, for ``version = any(...)``; None means any."""
        if self.tags is None or self.tags.anything:
            return None if self.version is None else (self.version,)
        named = {tag.version for tag in self.tags.tags} - {None}
        allowed = named if self.version is None else named & {self.version}
        return tuple(sorted(one for one in allowed if one is not None))


class Judgement(StrEnum):
    """Whether a change meets the version that its client expected to find."""

    MET = "met"
    PRECONDITION_FAILED = "precondition-failed"
    VERSION_CONFLICT = "version-conflict"


def version_tag(version: int) -> str:
    """Return the ``ETag`` of a row version: strong, since a version must never name two contents."""
    return f'"{version}"'


def parse_tags(text: str) -> TagList:
    """Read the value of an ``If-Match`` or ``If-None-Match``; lists and ``*`` as the RFC has them.

    Raises ValueError for anything else, a value without any tag included: a precondition that
    cannot be read must not count as none.
    """
    if text.strip(" \t") == "*":
        return TagList(anything=True)
    tags: list[EntityTag] = []
    at = 0
    while at < len(text):
        element = _ELEMENT.match(text, at)
        if element is None:
            break
        at = element.end()
        if element[2] is not None:
            tags.append(EntityTag(element[2], weak=element[1] is not None))
    if at < len(text) or not tags:
        msg = 'not a list of entity tags, such as "7" or "7", "8", and not *'
        raise ValueError(msg)
    return TagList(tuple(tags))


def judge(expected: Expected, current: int | None) -> Judgement:
    """Tell whether the row at version ``current`` (None: there is none) may be changed.

    ``If-Match`` compares strongly, so a weak tag never matches, and it comes before the body. The
    write itself must ask the database the same by ``versions()``: this only names what it found.
    """
    if expected.tags is not None:
        named = expected.tags.anything or current in {tag.version for tag in expected.tags.tags}
        if current is None or not named:
            return Judgement.PRECONDITION_FAILED
    if expected.version is not None and expected.version != current:
        return Judgement.VERSION_CONFLICT
    return Judgement.MET


def is_unchanged(if_none_match: TagList, current: int) -> bool:
    """Tell whether a reader who has the named tags has this version: compared weakly, for a 304."""
    return if_none_match.anything or str(current) in {tag.opaque for tag in if_none_match.tags}
