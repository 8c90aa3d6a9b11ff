"""How a machine's configuration differs from the one that is wanted: pure, and without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from viral_engine.fly.model import MachineConfig
from viral_engine.operations.deploy.found import digest

ABSENT = None

_SECRETISH = re.compile(r"PASSWORD|SECRET|TOKEN|KEY|CREDENTIAL|DSN", re.IGNORECASE)
_IN_URL = re.compile(r"(?<=://)([^\s:@/]*):([^\s@]*)@")

_AUTOSTOP = {"off": False, "stop": True}
"""The platform answers with another form of what was asked for."""

_OPEN = ("env", "checks")
"""Where a name that nobody declared was put by hand; elsewhere it is the platform's own default."""


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """One value; ``was`` and ``becomes`` are texts that may be shown, None for none."""

    path: str
    was: str | None
    becomes: str | None

    @property
    def sentence(self) -> str:
        """The difference, for people."""
        if self.was is None:
            return f"{self.path} is not set"
        if self.becomes is None:
            return f"{self.path} was set by hand"
        return f"{self.path} is {self.was}, not {self.becomes}"

    def facts(self) -> dict[str, str | None]:
        """The difference, for programs."""
        return {"path": self.path, "was": self.was, "becomes": self.becomes}


def differences(found: MachineConfig, wanted: MachineConfig) -> tuple[Difference, ...]:
    """Return every value that is wanted otherwise, sorted by its path."""
    return tuple(sorted(_walk(found.to_wire(), wanted.to_wire(), "")))


def merged(found: MachineConfig, wanted: MachineConfig) -> MachineConfig:
    """Return what is wanted with what others put there: fields we do not know, and metadata.

    Of the metadata, names that begin with ``viral_`` are ours alone.
    """
    theirs = {k: v for k, v in found.metadata.items() if not k.startswith("viral_")}
    own = {name: getattr(wanted, name) for name in MachineConfig.model_fields}
    return found.model_copy(update={**own, "metadata": {**theirs, **wanted.metadata}})


def _walk(found: Any, wanted: Any, path: str) -> Iterator[Difference]:
    match found, wanted:
        case dict(), dict():
            for key, value in wanted.items():
                yield from _walk(found.get(key), value, _below(path, key))
            for key in _put_by_hand(found, wanted, path):
                yield Difference(_below(path, key), _hidden(found[key]), None)
        case list(), list() if len(found) == len(wanted):
            for number, value in enumerate(wanted):
                yield from _walk(found[number], value, f"{path}[{number}]")
        case _ if not _same(found, wanted):
            yield Difference(path, _shown(path, found), _shown(path, wanted))


def _below(path: str, key: str) -> str:
    return f"{path}.{key}".lstrip(".")


def _put_by_hand(found: Mapping[str, Any], wanted: Mapping[str, Any], path: str) -> list[str]:
    if path == "metadata":
        return [k for k in found if k not in wanted and k.startswith("viral_")]
    return [k for k in found if k not in wanted] if path in _OPEN else []


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, str) and not isinstance(found, str):
        wanted = _AUTOSTOP.get(wanted, wanted)
    return bool(found == wanted or (found in (ABSENT, [], {}) and wanted in ([], {})))


def _shown(path: str, value: Any) -> str | None:
    """A value as it may be shown: what looks like a secret by its name, or holds one, as a digest."""
    if value is None:
        return None
    text = value if isinstance(value, str) else repr(value)
    if path.startswith("env.") and _SECRETISH.search(path):
        return _hidden(text)
    return _IN_URL.sub(lambda found: f"{found[1]}:{_hidden(found[2])}@", text)


def _hidden(value: Any) -> str:
    return f"sha256:{digest(value if isinstance(value, str) else repr(value))}"
