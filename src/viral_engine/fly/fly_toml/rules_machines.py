"""Rules about machines: their groups, sizes, volumes, restarts, and how a new version reaches them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from viral_engine.fly.fly_toml.file import FlyToml, Section
from viral_engine.fly.fly_toml.rule import Fault, Severity, TomlRule
from viral_engine.fly.fly_toml.sizes import size_fault

__all__ = ["MACHINE_RULES"]

STRATEGIES = ("rolling", "immediate", "canary", "bluegreen")
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


def _strategy(file: FlyToml) -> str:
    deploy = file.top.inner("deploy")
    return (deploy.text("strategy") if deploy else "") or "rolling"


def _by_group(file: FlyToml) -> Iterator[Section]:
    yield from file.services
    yield from file.guests
    yield from file.mounts
    for name in ("restart", "metrics", "metric", "files"):
        yield from file.top.each(name)


_REFERENCE = "https://fly.io/docs/reference/configuration/"
_VALIDATION = "superfly/flyctl internal/appconfig/validation.go (ad0172fac, 2026-08-21)"

MACHINE_RULES = (
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
