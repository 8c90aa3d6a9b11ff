"""Rules about checks: what takes a machine out of routing, and what does so by mistake."""

from __future__ import annotations

from collections.abc import Iterator

from viral_engine.fly.durations import parse_duration
from viral_engine.fly.fly_toml.file import FlyToml, Section
from viral_engine.fly.fly_toml.rule import Fault, Severity, TomlRule

__all__ = ["CHECK_RULES"]

SHORTEST_S, LONGEST_S = 1, 60
"""Seconds; the platform raises and lowers what a service's check asks for to these."""

SHORTEST_TOP_LEVEL_S = 2


def unchecked_services(file: FlyToml) -> Iterator[Fault]:
    """Find services that no check of their own keeps requests from."""
    for service in file.services:
        if not service.http_checks and not service.tcp_checks:
            yield Fault(service.path, f"{service.name} has no check", missing=True)


def redirected_checks(file: FlyToml) -> Iterator[Fault]:
    """Find checks of services that force HTTPS which do not say that they came by it."""
    for service in file.services:
        if not service.forces_https:
            continue
        for check in service.http_checks:
            headers = check.inner("headers")
            names = {name.lower() for name in headers.table} if headers else set()
            if "x-forwarded-proto" not in names:
                yield Fault(check.path, "the check does not say X-Forwarded-Proto: https")


def missing_graces(file: FlyToml) -> Iterator[Fault]:
    """Find checks that give a machine no time to boot."""
    for service in file.services:
        for check in (*service.http_checks, *service.tcp_checks):
            if not _seconds(check, "grace_period"):
                yield Fault(check.path, "the check has no grace_period")


def impossible_times(file: FlyToml) -> Iterator[Fault]:
    """Find times of checks that the platform changes or refuses."""
    for service in file.services:
        for check in (*service.http_checks, *service.tcp_checks):
            for name in ("interval", "timeout", "grace_period"):
                seconds = _seconds(check, name)
                low = 0 if name == "grace_period" else SHORTEST_S
                if seconds is not None and not low <= seconds <= LONGEST_S:
                    yield Fault(check.at(name), f"{name} is {seconds:g} s")
    for check in _top_level_checks(file):
        interval, timeout = _seconds(check, "interval"), _seconds(check, "timeout")
        if interval is not None and interval < SHORTEST_TOP_LEVEL_S:
            yield Fault(check.at("interval"), f"interval is {interval:g} s")
        if timeout is not None and timeout > LONGEST_S:
            yield Fault(check.at("timeout"), f"timeout is {timeout:g} s")


def _top_level_checks(file: FlyToml) -> Iterator[Section]:
    checks = file.top.inner("checks")
    for name in checks.table if checks else ():
        yield from checks.each(name) if checks else ()


def _seconds(section: Section, name: str) -> float | None:
    """Return a duration of a check in seconds; a bare number in a check is milliseconds."""
    value = section.table.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value / 1000
    try:
        return None if value is None else parse_duration(value).total_seconds()
    except ValueError:
        return None


_CHECKS = "https://fly.io/docs/reference/health-checks/"
_VALIDATION = "superfly/flyctl internal/appconfig/validation.go (ad0172fac, 2026-08-21)"

CHECK_RULES = (
    TomlRule(
        code="VE-TOML-008",
        severity=Severity.WARNING,
        title="A check that may be redirected",
        why="A check wants a 2xx and does not follow a redirect. It asks the machine by plain HTTP, "
        "and an app that sends those to HTTPS, as frameworks do by a setting, fails it for ever.",
        fix='[http_service.checks.headers] with X-Forwarded-Proto = "https".',
        source=_CHECKS,
        find=redirected_checks,
    ),
    TomlRule(
        code="VE-TOML-010",
        severity=Severity.WARNING,
        title="A check without a grace period",
        why="It fails while the machine still boots, and a deploy that waits for it flaps.",
        fix='grace_period = "20s", or more than a boot was measured to take.',
        source=_CHECKS,
        find=missing_graces,
    ),
    TomlRule(
        code="VE-TOML-017",
        severity=Severity.WARNING,
        title="A service without a check",
        why="Every started machine gets requests, ready or not. Only a check of the service itself "
        "keeps them away: one under [checks] does not.",
        fix="[[http_service.checks]] on a path that depends on nothing outside the machine: a check "
        "that asks the primary database takes every region down with it.",
        source=_CHECKS,
        find=unchecked_services,
    ),
    TomlRule(
        code="VE-TOML-018",
        severity=Severity.WARNING,
        title="A check with times that the platform does not keep",
        why=f"A service's check is asked every {SHORTEST_S} to {LONGEST_S} s and has as long to answer: what is "
        f"outside is changed. Under [checks] an interval below {SHORTEST_TOP_LEVEL_S} s, or a timeout above "
        f"{LONGEST_S} s, is refused.",
        fix="Write times within these bounds.",
        source=_VALIDATION,
        find=impossible_times,
    ),
)
