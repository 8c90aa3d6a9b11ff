from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping

from viral_engine.errors import MisuseError

__all__ = ["EnvironmentReader"]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class EnvironmentReader:
    """Reads variables and remembers every fault, so that a person sees all of them at once.

    A faulty variable reads as an empty or default value: call ``check`` before using any.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._faults: list[str] = []

    def fault(self, sentence: str) -> None:
        """Remember a fault."""
        self._faults.append(sentence)

    def check(self) -> None:
        """Raise MisuseError with all faults, if there was any."""
        if self._faults:
            lines = "".join(f"\n  - {fault}" for fault in self._faults)
            raise MisuseError(
                f"the environment of this machine has faults:{lines}",
                suggestion="The platform sets these variables when it creates the machine.",
            )

    def text(self, key: str, default: str | None = None) -> str:
        """Return a value that must not be empty unless there is a default."""
        value = self._environ.get(key) or default
        if value is None:
            self.fault(f"{key} is not set")
            return ""
        return value

    def name(self, key: str, default: str | None = None) -> str:
        """Return a value made of small letters, digits, - and _."""
        return self.matching(key, _NAME, "a name in small letters, digits, - and _", default)

    def matching(
        self, key: str, pattern: re.Pattern[str], what: str, default: str | None = None
    ) -> str:
        """Return a value that the pattern matches as a whole."""
        value = self.text(key, default)
        if value and not pattern.fullmatch(value):
            self.fault(f"{key} is {value!r}, expected {what}")
        return value

    def address(self, key: str) -> str:
        """Return an IPv4 or IPv6 address, without brackets."""
        value = self.text(key)
        if value and not _is_address(value):
            self.fault(f"{key} is {value!r}, expected an IPv4 or IPv6 address")
        return value

    def milliseconds(self, key: str, default: int) -> int:
        """Return a whole number above zero."""
        value = self.text(key, str(default))
        if not value.isdecimal() or int(value) == 0:
            self.fault(f"{key} is {value!r}, expected milliseconds as a whole number above zero")
            return default
        return int(value)

    def settings(self, key: str) -> dict[str, str]:
        """Return the names and values of a JSON object of strings; nothing where it is unset."""
        try:
            value = json.loads(self._environ.get(key) or "{}")
        except ValueError:
            value = None
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            self.fault(f"{key} is no JSON object of strings")
            return {}
        return value

    def addresses_by_region(self, key: str) -> tuple[tuple[str, str], ...]:
        """Return the pairs of ``iad=10.10.1.10,lhr=10.10.2.10`` in their order, each region once."""
        found: dict[str, str] = {}
        for entry in filter(None, self.text(key).split(",")):
            region, _, address = entry.strip().partition("=")
            if not _NAME.fullmatch(region) or not _is_address(address):
                self.fault(f"{key} has {entry!r}, expected region=address")
            elif region in found:
                self.fault(f"{key} names {region} twice")
            found[region] = address
        return tuple(found.items())


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
