"""Rules about keys and values by themselves: what flyctl drops, refuses, or reads otherwise."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from viral_engine.fly.fly_toml.file import FlyToml, Section
from viral_engine.fly.fly_toml.keys import ANY_NAME, KEYS, Keys, Kind
from viral_engine.fly.fly_toml.rule import Fault, Severity, TomlRule

__all__ = ["KEY_RULES"]

OF_ANOTHER_RULE = {"autoscaling", "restart_limit"}
"""Keys that no file has, but about which more can be said than that."""

_FOREIGN = re.compile(r"(MIX|PHX|ELIXIR|RAILS|NODE)_\w+")
_SECRET = re.compile(r".*(PASSWORD|SECRET|TOKEN|PRIVATE_KEY|API_KEY)")
_SIGNED_IN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s]*:[^/\s]+@")


def walk(section: Section, keys: Keys) -> Iterator[tuple[Section, str, Kind | Keys | None]]:
    """Yield every key below a table with what flyctl knows of it: a kind, more keys, or nothing."""
    for name, value in section.table.items():
        known = keys.get(name, keys.get(ANY_NAME))
        yield section, name, known
        if known is not None and not isinstance(known, Kind) and isinstance(value, dict | list):
            for inner in section.each(name):
                yield from walk(inner, known)


def unknown_keys(file: FlyToml) -> Iterator[Fault]:
    """Find keys that flyctl does not read."""
    for section, name, known in walk(file.top, KEYS):
        if known is None and name not in OF_ANOTHER_RULE:
            here = KEYS
            for part in section.path:
                here = here if isinstance(part, int) else here.get(part, here.get(ANY_NAME))
            close = difflib.get_close_matches(name, here, n=1)
            meant = f'did you mean "{close[0]}"?' if close else f"known here: {', '.join(here)}"
            yield Fault(section.at(name), f'unknown key "{name}"; {meant}')


def wrong_kinds(file: FlyToml) -> Iterator[Fault]:
    """Find values that flyctl cannot read."""
    for section, name, known in walk(file.top, KEYS):
        value = section.table[name]
        if isinstance(known, Kind) and not known.allows(value):
            yield Fault(section.at(name), f"expected {known.allowed}, got {_show(value)}")
        elif known is not None and not isinstance(known, Kind) and not _holds_tables(value):
            yield Fault(section.at(name), f"expected a table, got {_show(value)}")


def autoscaling(file: FlyToml) -> Iterator[Fault]:
    """Find sections about autoscaling."""
    for section, name, _ in walk(file.top, KEYS):
        if name != "autoscaling":
            continue
        yield Fault(section.at(name), "there is no autoscaling section")
        inner = section.inner(name)
        regions = inner.inner("regions") if inner else None
        for code in regions.table if regions else ():
            yield Fault(section.at(name, "regions", code), f"the counts of {code} have no effect")


def restart_limits(file: FlyToml) -> Iterator[Fault]:
    """Find checks that say how often to restart."""
    for section, name, _ in walk(file.top, KEYS):
        if name == "restart_limit":
            yield Fault(section.at(name), f"restart_limit = {section.table[name]} is dropped")


def platform_names(file: FlyToml) -> Iterator[Fault]:
    """Find variables with names that the platform keeps to itself."""
    for env in file.top.each("env"):
        for name in env.table:
            if name.startswith("FLY_"):
                yield Fault(env.at(name), f"{name} is set by the platform")


def foreign_settings(file: FlyToml) -> Iterator[Fault]:
    """Find settings of another language's runtime."""
    build = file.top.inner("build")
    for section in (*file.top.each("env"), *(build.each("args") if build else ())):
        for name in section.table:
            if _FOREIGN.fullmatch(name):
                yield Fault(section.at(name), f"nothing in a Python image reads {name}")


def written_secrets(file: FlyToml) -> Iterator[Fault]:
    """Find secrets among the variables; the finding names the variable and never its value."""
    for env in file.top.each("env"):
        for name, value in env.table.items():
            secret = _SECRET.fullmatch(name.upper()) or _SIGNED_IN.match(str(value))
            if secret and value:
                yield Fault(
                    env.at(name), f"{name} holds a secret, readable by all who read the file"
                )


def _holds_tables(value: object) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and all(isinstance(one, dict) for one in value)
    )


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


_SCHEMA = "superfly/flyctl internal/appconfig (ad0172fac, 2026-08-21)"
_REFERENCE = "https://fly.io/docs/reference/configuration/"

KEY_RULES = (
    TomlRule(
        code="VE-TOML-001",
        severity=Severity.ERROR,
        title="A key that fly.toml does not have",
        why="`fly deploy` drops it without a word, so that what was meant never happens; only "
        "`fly config validate --strict` tells.",
        fix="Write the key that was meant, or take it out.",
        source=f"{_SCHEMA}, strict_validate.go",
        find=unknown_keys,
    ),
    TomlRule(
        code="VE-TOML-015",
        severity=Severity.ERROR,
        title="A value of the wrong kind",
        why="flyctl cannot read the file, or reads something else than was meant.",
        fix="Write a value of the kind that is named.",
        source=_SCHEMA,
        find=wrong_kinds,
    ),
    TomlRule(
        code="VE-TOML-003",
        severity=Severity.ERROR,
        title="An autoscaling section",
        why="No such section exists: it is dropped without a word. fly.toml has nothing by region; "
        "how many machines a region has is only in the set of machines itself.",
        fix='Say it in viral.toml ("[regions.iad]" with min and max), and let `viral` make the '
        "machines.",
        source=f"{_SCHEMA}; https://fly.io/docs/reference/autoscaling/",
        find=autoscaling,
    ),
    TomlRule(
        code="VE-TOML-004",
        severity=Severity.ERROR,
        title="A check with restart_limit",
        why="A key of an older platform: it is dropped. A failing check takes a machine out of "
        "routing, and never restarts, moves or adds one.",
        fix='Leave it out. Restarts follow the exit of the process: "[[restart]]" with policy and '
        "retries.",
        source='superfly/flyctl at 03efa688, appconfig/service.go ("only supported on V1 Apps"); '
        "https://fly.io/docs/reference/health-checks/",
        find=restart_limits,
    ),
    TomlRule(
        code="VE-TOML-012",
        severity=Severity.ERROR,
        title="A variable named FLY_*",
        why="The platform keeps these names to itself.",
        fix="Name it otherwise.",
        source=_REFERENCE + "#the-env-variables-section",
        find=platform_names,
    ),
    TomlRule(
        code="VE-TOML-016",
        severity=Severity.WARNING,
        title="A setting of another language's runtime",
        why="It was copied from a project in Elixir, Ruby or JavaScript, and does nothing here.",
        fix="Take it out, or name it after what reads it.",
        source="the guide that this product was asked for from: MIX_ENV, PHX_HOST",
        find=foreign_settings,
    ),
    TomlRule(
        code="VE-TOML-026",
        severity=Severity.ERROR,
        title="A secret in the file",
        why="The file is in version control and is shown by `fly config show`; each of its readers "
        "has the secret.",
        fix="Set it with `fly secrets set`, all of them in one call: each call restarts every machine.",
        source="https://fly.io/docs/apps/secrets/",
        find=written_secrets,
    ),
)
