"""Rules about services: ports, limits and stopping; what decides where a request goes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from viral_engine.fly.fly_toml.file import FlyToml, Section, Service
from viral_engine.fly.fly_toml.rule import Fault, Severity, TomlRule
from viral_engine.fly.fly_toml.sizes import smallest_cpus

__all__ = ["SERVICE_RULES"]

MOST_REQUESTS_A_CPU = 500
"""Requests at once; one process of a Python app answers late long before it has so many."""


def doubled_services(file: FlyToml) -> Iterator[Fault]:
    """Find two services that claim the same port of a machine, or the same port of users."""
    for one, other in combinations(file.services, 2):
        if not _may_meet(one, other):
            continue
        if one.internal_port is not None and one.internal_port == other.internal_port:
            yield Fault(other.path, f"{other.name} is a second service for port "
                                    f"{one.internal_port} of the machine")  # fmt: skip
        elif shared := sorted(one.ports & other.ports):
            ports = ", ".join(map(str, shared))
            yield Fault(other.path, f"{other.name} is a second service on port {ports}")


def missing_hard_limits(file: FlyToml) -> Iterator[Fault]:
    """Find services without a hard limit; datagrams are not counted."""
    for service in file.services:
        if service.is_udp:
            continue
        concurrency = service.inner("concurrency")
        if concurrency is None or concurrency.whole("hard_limit") is None:
            place = concurrency.path if concurrency else service.path
            yield Fault(place, f"{service.name} has no hard_limit", missing=True)


def swapped_limits(file: FlyToml) -> Iterator[Fault]:
    """Find soft limits above the hard one."""
    for concurrency in _limits(file):
        soft, hard = concurrency.whole("soft_limit"), concurrency.whole("hard_limit")
        if soft is not None and hard is not None and soft > hard:
            yield Fault(
                concurrency.at("soft_limit"), f"soft_limit {soft} is above hard_limit {hard}"
            )


def unreachable_limits(file: FlyToml) -> Iterator[Fault]:
    """Find hard limits that a machine of this size never gets to."""
    cpus = smallest_cpus(file)
    for concurrency in _limits(file):
        hard = concurrency.whole("hard_limit")
        if hard is not None and hard > MOST_REQUESTS_A_CPU * cpus:
            noun = "CPU" if cpus == 1 else "CPUs"
            yield Fault(
                concurrency.at("hard_limit"), f"hard_limit {hard} for a machine with {cpus} {noun}"
            )


def counted_connections(file: FlyToml) -> Iterator[Fault]:
    """Find HTTP services that count connections in place of requests."""
    for service in file.services:
        concurrency = service.inner("concurrency")
        if concurrency and service.speaks_http and concurrency.text("type") != "requests":
            said = concurrency.text("type") or "connections, the default"
            yield Fault(concurrency.path, f"{service.name} counts {said}")


def useless_minimums(file: FlyToml) -> Iterator[Fault]:
    """Find minimums that do nothing, or less than they seem to."""
    for service in file.services:
        minimum = service.whole("min_machines_running")
        place = service.at("min_machines_running")
        if minimum is not None and not service.stops_machines:
            yield Fault(
                place, f"min_machines_running = {minimum} has no effect: nothing is stopped"
            )
        elif minimum:
            yield Fault(place, f"min_machines_running = {minimum} holds in the primary region only")


def stopped_spares(file: FlyToml) -> Iterator[Fault]:
    """Find services whose machines are stopped when nobody uses them."""
    for service in file.services:
        if service.stops_machines:
            yield Fault(
                service.at("auto_stop_machines"), f"{service.name} stops machines that are idle"
            )


def old_switches(file: FlyToml) -> Iterator[Fault]:
    """Find auto_stop_machines with true or false."""
    for service in file.services:
        value = service.table.get("auto_stop_machines")
        if isinstance(value, bool):
            means = '"stop"' if value else '"off"'
            yield Fault(
                service.at("auto_stop_machines"),
                f"auto_stop_machines = {str(value).lower()} is the old spelling of {means}",
            )


def _may_meet(one: Service, other: Service) -> bool:
    """Whether two services can be on one machine, by one protocol: they share a group, or name none."""
    if one.is_udp != other.is_udp:
        return False
    mine, theirs = one.texts("processes"), other.texts("processes")
    return not mine or not theirs or bool(set(mine) & set(theirs))


def _limits(file: FlyToml) -> Iterator[Section]:
    for service in file.services:
        concurrency = service.inner("concurrency")
        if concurrency is not None:
            yield concurrency


_BALANCING = "https://fly.io/docs/reference/load-balancing/"
_STOPPING = "https://fly.io/docs/reference/fly-proxy-autostop-autostart/"

SERVICE_RULES = (
    TomlRule(
        code="VE-TOML-005",
        severity=Severity.ERROR,
        title="A service without a hard_limit",
        why="Requests go to another region only when every machine of the near one is unhealthy or at "
        "its hard limit; a soft limit spreads them within a region. Without a hard limit nothing "
        "ever overflows, and the near region drowns beside idle ones.",
        fix='[http_service.concurrency] with type = "requests", soft_limit and hard_limit, as '
        "measured for the size of the machine.",
        source=_BALANCING,
        find=missing_hard_limits,
    ),
    TomlRule(
        code="VE-TOML-006",
        severity=Severity.WARNING,
        title="min_machines_running that does not do what it seems to",
        why="It keeps that many machines from being stopped, in the primary region only: with "
        "auto_stop_machines off it does nothing, and it is no floor for any other region.",
        fix="Take it out; a floor by region is `min` in viral.toml.",
        source=_STOPPING,
        find=useless_minimums,
    ),
    TomlRule(
        code="VE-TOML-007",
        severity=Severity.WARNING,
        title="Idle machines are stopped",
        why="A stopped machine keeps its disk, not its CPU and memory: when a region is lost, the "
        "host of the machine that should take over may be full (409). Each first user waits for "
        "a cold start.",
        fix='auto_stop_machines = "off" where a region must be able to take over from another.',
        source=f"{_STOPPING}; https://fly.io/docs/machines/api/working-with-machines-api/",
        find=stopped_spares,
    ),
    TomlRule(
        code="VE-TOML-013",
        severity=Severity.WARNING,
        title="auto_stop_machines with true or false",
        why='The old spelling: false is "off", true is "stop". It hides that there is "suspend" too.',
        fix='"off", "stop" or "suspend".',
        source="https://fly.io/docs/reference/configuration/#the-http_service-section",
        find=old_switches,
    ),
    TomlRule(
        code="VE-TOML-014",
        severity=Severity.WARNING,
        title="A hard_limit that is never reached",
        why=f"A process of a Python app is late long before {MOST_REQUESTS_A_CPU} requests at once on a CPU. "
        "A limit that is never reached is none: no other region is asked for help.",
        fix="Measure how many a machine of this size answers in time, and write that.",
        source=f"{_BALANCING}; docs/reference/benchmarks.md",
        find=unreachable_limits,
    ),
    TomlRule(
        code="VE-TOML-002",
        severity=Severity.ERROR,
        title="Two services for one port",
        why="flyctl puts [http_service] and [[services]] one behind the other; the platform keeps one "
        "of the two, and the checks or limits of the other are lost.",
        fix="Keep one: [http_service], with its checks inside it.",
        source="superfly/flyctl issue 1635 and pull request 3522; appconfig/service.go",
        find=doubled_services,
    ),
    TomlRule(
        code="VE-TOML-021",
        severity=Severity.WARNING,
        title="An HTTP service that counts connections",
        why="The platform keeps connections to a machine open and sends many requests over each: "
        "their number says little about the load.",
        fix='type = "requests".',
        source=_BALANCING,
        find=counted_connections,
    ),
    TomlRule(
        code="VE-TOML-022",
        severity=Severity.ERROR,
        title="A soft_limit above the hard_limit",
        why="Nothing is sent above the hard limit, so the soft one is never reached.",
        fix="soft_limit at about four fifths of hard_limit.",
        source=_BALANCING,
        find=swapped_limits,
    ),
)
