"""Rules about machines: where they are, their groups and sizes, how they end and are updated."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from viral_engine.fly.durations import parse_duration
from viral_engine.fly.fly_toml.file import FlyToml, Section
from viral_engine.fly.fly_toml.rule import Fault, Severity, TomlRule
from viral_engine.fly.fly_toml.sizes import size_fault
from viral_engine.topology.regions import all_regions, explain_unknown

__all__ = ["MACHINE_RULES"]

STRATEGIES = ("rolling", "immediate", "canary", "bluegreen")
LONGEST_KILL_TIMEOUT_S = 300
SIGNALS = {"SIGINT", "SIGTERM", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGSTOP", "SIGHUP"}
POLICIES = ("never", "on-failure", "always")


def refused_strategies(file: FlyToml) -> Iterator[Fault]:
    """Find strategies that there are not, or that cannot be with what else the file says."""
    strategy = _strategy(file)
    place = ("deploy", "strategy")
    if strategy not in STRATEGIES:
        yield Fault(place, f'"{strategy}" is not one of {", ".join(STRATEGIES)}')
    if strategy in {"bluegreen", "canary"} and file.mounts:
        yield Fault(place, f"{strategy} cannot be with a volume")
    checked = file.top.table.get("checks") or any(
        service.http_checks or service.tcp_checks for service in file.services
    )
    if strategy == "bluegreen" and not checked:
        yield Fault(place, "bluegreen needs at least one check")


def wide_rolls(file: FlyToml) -> Iterator[Fault]:
    """Find deploys that may take more than one machine at a time."""
    deploy = file.top.inner("deploy")
    if _strategy(file) not in {"rolling", "canary"}:
        return
    most = deploy.table.get("max_unavailable") if deploy else None
    if most is None:
        yield Fault(
            ("deploy",), "no max_unavailable: a third of all machines at once", missing=True
        )
    elif most != 1:
        yield Fault(("deploy", "max_unavailable"), f"max_unavailable = {most}")


def shared_sizes(file: FlyToml) -> Iterator[Fault]:
    """Find two sizes for one process group."""
    for one, other in combinations(file.guests, 2):
        groups = set(one.texts("processes")) & set(other.texts("processes"))
        if groups or not (one.texts("processes") or other.texts("processes")):
            whom = ", ".join(sorted(groups)) or "every group"
            yield Fault(other.path, f"a second size for {whom}")


def wrong_sizes(file: FlyToml) -> Iterator[Fault]:
    """Find sizes of machines that there are not."""
    for guest in file.guests:
        if fault := size_fault(guest):
            yield Fault(guest.at(fault[0]), fault[1])


def unknown_groups(file: FlyToml) -> Iterator[Fault]:
    """Find parts of the file for process groups that it does not have."""
    several = bool(file.top.table.get("processes"))
    for section in _by_group(file):
        named = section.texts("processes")
        for group in named:
            if group not in file.groups:
                yield Fault(
                    section.at("processes"),
                    f'no process group "{group}"; there are {", ".join(file.groups)}',
                )
        if several and not named and section.path[0] in {"http_service", "services"}:
            yield Fault(section.path, f"{section.path[0]} names no process group")


def unknown_policies(file: FlyToml) -> Iterator[Fault]:
    """Find restart policies that there are not."""
    for restart in file.top.each("restart"):
        policy = restart.text("policy")
        if policy not in {"", *POLICIES}:
            yield Fault(restart.at("policy"), f'"{policy}" is not one of {", ".join(POLICIES)}')


def primary_regions(file: FlyToml) -> Iterator[Fault]:
    """Find a primary region that is missing or is none."""
    code = file.top.text("primary_region")
    if not code:
        yield Fault((), "no primary_region", missing=True)
    elif code not in all_regions():
        yield Fault(("primary_region",), explain_unknown(code))


def kill_timeouts(file: FlyToml) -> Iterator[Fault]:
    """Find a missing or impossible time to drain."""
    value = file.top.table.get("kill_timeout")
    if value is None:
        yield Fault((), "no kill_timeout: a machine has 5 s to end its requests", missing=True)
        return
    # A bare number is seconds here, and nowhere else in the file.
    seconds = value if isinstance(value, int | float) else _seconds(value)
    if seconds is not None and seconds > LONGEST_KILL_TIMEOUT_S:
        yield Fault(("kill_timeout",), f"kill_timeout is {seconds:g} s")


def kill_signals(file: FlyToml) -> Iterator[Fault]:
    """Find signals that the platform does not send."""
    signal = file.top.text("kill_signal")
    if signal and signal not in SIGNALS:
        yield Fault(("kill_signal",), f'"{signal}" is not one of {", ".join(sorted(SIGNALS))}')


def _strategy(file: FlyToml) -> str:
    deploy = file.top.inner("deploy")
    return (deploy.text("strategy") if deploy else "") or "rolling"


def _by_group(file: FlyToml) -> Iterator[Section]:
    yield from file.services
    yield from file.guests
    yield from file.mounts
    for name in ("restart", "metrics", "metric", "files"):
        yield from file.top.each(name)


def _seconds(value: object) -> float | None:
    try:
        return parse_duration(value).total_seconds()
    except ValueError:
        return None


_REFERENCE = "https://fly.io/docs/reference/configuration/"
_VALIDATION = "superfly/flyctl internal/appconfig/validation.go (ad0172fac, 2026-08-21)"

MACHINE_RULES = (
    TomlRule(
        code="VE-TOML-011",
        severity=Severity.WARNING,
        title="No time to drain, or more than there is",
        why="After 5 s, the default, requests and sockets that a machine still serves are cut, at "
        "each deploy; 300 s is the most that the platform waits.",
        fix='kill_timeout = "30s", or what the longest request needs.',
        source=f"{_REFERENCE}#kill_timeout-option",
        find=kill_timeouts,
    ),
    TomlRule(
        code="VE-TOML-019",
        severity=Severity.ERROR,
        title="No primary_region, or one that is no region",
        why="It is where `fly deploy` makes machines, and what PRIMARY_REGION says inside them: "
        "without it nobody knows where writes go.",
        fix="Write a code that `viral regions` lists.",
        source=f"{_REFERENCE}#primary-region; GET /v1/platform/regions",
        find=primary_regions,
    ),
    TomlRule(
        code="VE-TOML-028",
        severity=Severity.ERROR,
        title="A kill_signal that is none",
        why="The platform sends one of a few signals; with any other the machine is not updated.",
        fix='kill_signal = "SIGTERM".',
        source=f"{_REFERENCE}#kill_signal-option",
        find=kill_signals,
    ),
    TomlRule(
        code="VE-TOML-009",
        severity=Severity.ERROR,
        title="A deploy strategy that is refused",
        why="canary and bluegreen make machines beside the old ones, which cannot have their volumes; "
        "bluegreen moves users once checks pass, and there are none.",
        fix='strategy = "rolling" with a volume; a check for bluegreen.',
        source=f"{_REFERENCE}#picking-a-deployment-strategy; {_VALIDATION}",
        find=refused_strategies,
    ),
    TomlRule(
        code="VE-TOML-020",
        severity=Severity.ERROR,
        title="A process group that there is not, or none named",
        why="`fly deploy` refuses a service that names no group where [processes] has any, and any part for "
        "a group that it does not have.",
        fix='processes = ["app"].',
        source=_VALIDATION,
        find=unknown_groups,
    ),
    TomlRule(
        code="VE-TOML-023",
        severity=Severity.WARNING,
        title="A deploy that may take a whole region at once",
        why="A rolling deploy knows no regions: a third of all machines, the default, can be all that "
        "a small region has.",
        fix="[deploy] with max_unavailable = 1.",
        source=f"{_REFERENCE}#rolling-deploy-configuration",
        find=wide_rolls,
    ),
    TomlRule(
        code="VE-TOML-024",
        severity=Severity.ERROR,
        title="A size that no machine has",
        why="Memory goes with CPUs: 256 to 2048 MB for each shared one, 2048 to 8192 MB for each "
        "performance one.",
        fix='size = "shared-cpu-1x" with memory = "1gb", or cpu_kind, cpus and memory_mb that fit.',
        source="superfly/fly-go machine_types.go (22d6e51, 2026-08-21); "
        "https://fly.io/docs/about/pricing/",
        find=wrong_sizes,
    ),
    TomlRule(
        code="VE-TOML-025",
        severity=Severity.ERROR,
        title="A restart policy that there is not",
        why="`fly deploy` refuses the file.",
        fix='policy = "on-failure" with retries.',
        source=_VALIDATION,
        find=unknown_policies,
    ),
    TomlRule(
        code="VE-TOML-027",
        severity=Severity.ERROR,
        title="Two sizes for one process group",
        why="[[vm]] is by process group and knows no regions: of two for the same group one is taken, "
        "everywhere. A smaller machine for a secondary region cannot be said here.",
        fix='Say it in viral.toml ("[regions.lhr.guest]"), or name other processes.',
        source=f"{_REFERENCE}#the-vm-section",
        find=shared_sizes,
    ),
)
