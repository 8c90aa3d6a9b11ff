"""viral.toml in, a deployment out, or one report of every fault in it."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

from viral_engine.errors import TopologyError
from viral_engine.topology.kinds import Kind, WrongValueError
from viral_engine.topology.lines import KeyPath, key_lines, line_of
from viral_engine.topology.model import (
    DEFAULT_APP_NAME,
    DEFAULT_REGIONS,
    Cache,
    Check,
    Database,
    Deployment,
    Guest,
    Provider,
    RegionPlan,
    Service,
    Standby,
    Strategy,
    default_consistency,
    default_deployment,
)
from viral_engine.topology.rules import broken_rules
from viral_engine.topology.schema import KEYS, NAMES, Path
from viral_engine.topology.witness import choose_witness

__all__ = ["FILE_NAME", "load", "load_folder", "parse"]

FILE_NAME = "viral.toml"

Values = Mapping[Path, Any]


@dataclass(frozen=True, slots=True, order=True)
class _Fault:
    path: Path
    problem: str


def load(file: File) -> Deployment:
    """Read a deployment file; raise TopologyError that lists every fault with its place."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise TopologyError(str(file), (f"it cannot be read: {error.strerror}",)) from error
    except UnicodeDecodeError as error:
        raise TopologyError(str(file), ("it is not UTF-8 text",)) from error
    return parse(text, source=str(file))


def load_folder(folder: File) -> Deployment:
    """Read the viral.toml of a folder, or return the default deployment where it has none."""
    file = folder / FILE_NAME
    return load(file) if file.exists() else default_deployment()


def parse(text: str, *, source: str = FILE_NAME) -> Deployment:
    """Read a deployment from TOML text; raise TopologyError that lists every fault in it."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TopologyError(source, (_syntax_fault(str(error), text),)) from error
    faults: list[_Fault] = []
    values = dict(_read_table(raw, (), (), faults))
    deployment = _build(values)
    faults += _broken(deployment, {fault.path for fault in faults}, raw)
    if faults:
        raise TopologyError(source, _report(faults, key_lines(text)))
    return deployment


def _broken(
    deployment: Deployment, faulty: set[Path], raw: Mapping[str, object]
) -> Iterator[_Fault]:
    """Yield the rules broken by what was written; a default must not be blamed for its place."""
    if raw.get("regions") == {}:
        yield _Fault(("regions",), 'name at least one region, such as "regions.iad"')
    if "regions" in raw and not any(code in deployment.region_codes for code in _names(raw)):
        faulty = faulty | {("primary_region",), ("witness",)}
    for rule in broken_rules(deployment):
        if faulty.isdisjoint(rule.paths):
            yield _Fault(rule.paths[0], rule.problem)


def _names(raw: Mapping[str, object]) -> Iterable[str]:
    regions = raw["regions"]
    return regions if isinstance(regions, dict) else ()


def _syntax_fault(message: str, text: str) -> str:
    """Put the place of a syntax error first; the parser says it at the end of its message."""
    match = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", message)
    if match is None:
        return f"not valid TOML: {message}"
    if match[2] is None:
        last = len(text.rstrip().splitlines())
        return f"line {last}: not valid TOML: {match[1]} (at the end of the file)"
    return f"line {match[2]}: not valid TOML: {match[1]} (column {match[3]})"


def _report(faults: Iterable[_Fault], lines: Mapping[KeyPath, int]) -> tuple[str, ...]:
    placed = sorted((line_of(fault.path, lines) or 0, fault) for fault in faults)
    return tuple(
        f"line {line}, {'.'.join(fault.path)}: {fault.problem}"
        if line
        else f"{'.'.join(fault.path)}: {fault.problem}"
        for line, fault in placed
    )


def _read_table(
    raw: Mapping[str, object], path: Path, pattern: Path, faults: list[_Fault]
) -> Iterator[tuple[Path, object]]:
    """Yield the values of a table that are of their kind, and note every other as a fault."""
    yield path, {}
    known = sorted({key[len(pattern)] for key in KEYS if key[: len(pattern)] == pattern != key})
    for name, value in raw.items():
        here = (*path, name)
        if known == ["*"]:
            if not _is_of(NAMES[pattern], name, here, faults, what="a name of "):
                continue
            below = (*pattern, "*")
        elif name in known:
            below = (*pattern, name)
        else:
            faults.append(_Fault(here, _unknown(name, known)))
            continue
        if kind := KEYS.get(below):
            if _is_of(kind, value, here, faults):
                yield here, kind.read(value)
        elif isinstance(value, dict):
            yield from _read_table(value, here, below, faults)
        else:
            faults.append(_Fault(here, f"expected a table, got {_show(value)}"))


def _is_of(kind: Kind, value: object, path: Path, faults: list[_Fault], *, what: str = "") -> bool:
    try:
        kind.read(value)
    except WrongValueError as error:
        usual = f"expected {what}{kind.allowed}, got {_show(value)}"
        faults.append(_Fault(path, str(error) or usual))
        return False
    return True


def _unknown(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    meant = f'did you mean "{close[0]}"?' if close else f"the keys here are {', '.join(known)}"
    return f"unknown key; {meant}"


def _show(value: object) -> str:
    match value:
        case str():
            return f'"{value}"'
        case bool():
            return str(value).lower()
        case dict():
            return "a table"
        case list():
            return "an array"
    return str(value)


def _build(values: Values) -> Deployment:
    """Put the deployment together, with the default for whatever the file does not say."""
    plans = tuple(
        _region_plan(values, path[1]) for path in values if len(path) == 2 and path[0] == "regions"
    )
    regions = plans or DEFAULT_REGIONS
    codes = [plan.code for plan in regions]
    service = Service(
        **_fields(values, ("service",)),
        check=Check(**_fields(values, ("service", "check"))),
        env=_fields(values, ("service", "env")),
    )
    database = Database(
        **_fields(values, ("database",)), parameters=_fields(values, ("database", "parameters"))
    )
    top = _fields(values, ())
    return Deployment(
        app=top.get("app", DEFAULT_APP_NAME),
        primary_region=top.get("primary_region", codes[0]),
        regions=regions,
        witness=_witness(values, database, codes),
        strategy=top.get("strategy", Strategy.ACTIVE_ACTIVE),
        standby=top.get("standby", Standby.STARTED),
        consistency=default_consistency(service.app) | _fields(values, ("consistency",)),
        database=database,
        cache=Cache(**_fields(values, ("cache",))),
        service=service,
    )


def _witness(values: Values, database: Database, codes: list[str]) -> str | None:
    """The region of the third vote: as it was said, else chosen; none where nobody of ours votes."""
    if database.provider is Provider.EXTERNAL:
        return None
    top = _fields(values, ())
    return (top["witness"] or None) if "witness" in top else choose_witness(codes)


def _region_plan(values: Values, code: str) -> RegionPlan:
    place = ("regions", code)
    fields = _fields(values, place)
    fields.setdefault("max", max(fields.get("min", 1), 1))
    return RegionPlan(code=code, **fields, guest=Guest(**_fields(values, (*place, "guest"))))


def _fields(values: Values, table: Path) -> dict[str, Any]:
    """Return the plain values of one table; the tables inside it are not among them."""
    return {
        path[-1]: value
        for path, value in values.items()
        if path[:-1] == table and path and not isinstance(value, dict)
    }
