"""A fly.toml as it was written: its tables, the lines they stand on, and its services as one kind."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from viral_engine.errors import MisuseError
from viral_engine.topology.lines import KeyPath, key_lines, line_of

__all__ = ["FlyToml", "Section", "Service"]

Table = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Section:
    """A table of the file and where it is."""

    path: KeyPath
    table: Table

    def at(self, *more: str | int) -> KeyPath:
        """Return the path of something in it."""
        return (*self.path, *more)

    def inner(self, name: str) -> Section | None:
        """Return a table inside it, or None where there is none by that name."""
        found = self.table.get(name)
        return Section(self.at(name), found) if isinstance(found, dict) else None

    def each(self, name: str) -> Iterator[Section]:
        """Yield the tables of an array of tables; a single table counts as an array of one."""
        found = self.table.get(name)
        if isinstance(found, dict):
            yield Section(self.at(name), found)
        for number, one in enumerate(found if isinstance(found, list) else ()):
            if isinstance(one, dict):
                yield Section(self.at(name, number), one)

    def whole(self, name: str) -> int | None:
        """Return a whole number, or None where there is none."""
        value = self.table.get(name)
        if isinstance(value, str) and value.isdecimal():
            return int(value)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def text(self, name: str) -> str:
        """Return a text, or an empty one where there is none."""
        value = self.table.get(name)
        return value if isinstance(value, str) else ""

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the texts of a list."""
        value = self.table.get(name)
        return tuple(map(str, value)) if isinstance(value, list) else ()


@dataclass(frozen=True, slots=True)
class Service(Section):
    """A service of the file, be it ``http_service`` or one of ``services``."""

    @property
    def is_http_service(self) -> bool:
        """Whether it is the short form, which has ports 80 and 443 by itself."""
        return self.path[0] == "http_service"

    @property
    def is_udp(self) -> bool:
        """Whether it takes datagrams."""
        return self.table.get("protocol") == "udp"

    @property
    def name(self) -> str:
        """What people call it."""
        return "[http_service]" if self.is_http_service else "[[services]]"

    @property
    def ports(self) -> frozenset[int]:
        """The ports that users reach it by."""
        if self.is_http_service:
            return frozenset({80, 443})
        found = (port.whole("port") for port in self.each("ports"))
        return frozenset(port for port in found if port is not None)

    @property
    def internal_port(self) -> int | None:
        """The port of the machine; 8080 where the short form does not say."""
        return self.whole("internal_port") or (8080 if self.is_http_service else None)

    @property
    def speaks_http(self) -> bool:
        """Whether the platform reads its requests."""
        return self.is_http_service or any(
            "http" in port.texts("handlers") for port in self.each("ports")
        )

    @property
    def forces_https(self) -> bool:
        """Whether the platform redirects plain requests."""
        return any(one.table.get("force_https") is True for one in (self, *self.each("ports")))

    @property
    def http_checks(self) -> tuple[Section, ...]:
        """Its checks that ask for a path."""
        return tuple(self.each("checks" if self.is_http_service else "http_checks"))

    @property
    def tcp_checks(self) -> tuple[Section, ...]:
        """Its checks that only connect; in the short form flyctl reads none."""
        return tuple(self.each("tcp_checks"))

    @property
    def stops_machines(self) -> bool:
        """Whether the platform stops machines that nobody uses."""
        return self.table.get("auto_stop_machines") in ("stop", "suspend", True)


@dataclass(frozen=True, slots=True)
class FlyToml:
    """A whole file; ``top`` is what stands above the first table, and all tables with it."""

    top: Section
    lines: Mapping[KeyPath, int]

    @classmethod
    def parse(cls, text: str, *, source: str = "fly.toml") -> FlyToml:
        """Read a file; raise MisuseError that names the line for text that is not TOML."""
        try:
            raw = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            where, problem = _place(str(error), text)
            raise MisuseError(
                f"{source}, line {where}: not valid TOML: {problem}",
                suggestion="flyctl cannot read it either: mend that line first.",
            ) from error
        return cls(Section((), raw), key_lines(text))

    @property
    def services(self) -> tuple[Service, ...]:
        """Every service, in both of the forms that there are."""
        found = [*self.top.each("http_service"), *self.top.each("services")]
        return tuple(Service(one.path, one.table) for one in found)

    @property
    def guests(self) -> tuple[Section, ...]:
        """The sizes of machines, in every spelling that flyctl takes."""
        return tuple(one for name in ("vm", "compute", "computes") for one in self.top.each(name))

    @property
    def mounts(self) -> tuple[Section, ...]:
        """The volumes, in both spellings."""
        return (*self.top.each("mounts"), *self.top.each("mount"))

    @property
    def groups(self) -> tuple[str, ...]:
        """The process groups; ``app`` where the file names none."""
        named = self.top.table.get("processes")
        return tuple(named) if isinstance(named, dict) and named else ("app",)

    def line(self, path: KeyPath) -> int | None:
        """Return the line of a key, or of the nearest table around it that is written out."""
        return line_of(path, self.lines)


def _place(message: str, text: str) -> tuple[int, str]:
    match = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", message)
    if match is None or match[2] is None:
        return max(1, len(text.rstrip().splitlines())), match[1] if match else message
    return int(match[2]), match[1]
