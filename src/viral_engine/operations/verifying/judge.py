"""What follows from what was answered and seen: pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from viral_engine.fly.model import Certificate, Machine, MachineState
from viral_engine.operations.blueprint import Place
from viral_engine.operations.formation import Formation, Standing
from viral_engine.operations.verifying.asks import Answer
from viral_engine.operations.verifying.line import Line, Ruling
from viral_engine.topology.model import Provider

__all__ = [
    "certificate_line",
    "machine_line",
    "no_database_line",
    "read_line",
    "replay_line",
    "replication_lines",
    "strong_line",
    "token_line",
    "write_line",
]

NO_RUNTIME = "the app does not take the runtime: no viral-route"


def machine_line(place: Place, machine: Machine | None) -> Line:
    """Judge one machine by its checks; one that stands by stopped is as it should be."""
    if machine is None:
        ruling, seen = Ruling.BROKEN, "it does not exist"
    else:
        seen = ", ".join(_states(machine))
        stands_by = "viral_standby" in machine.config.metadata and machine.cordoned
        well = machine.healthy or (stands_by and machine.state is MachineState.STOPPED)
        ruling = Ruling.KEPT if well else Ruling.BROKEN
    return Line(place.name, place.region, ruling, seen, "started, checks passing")


def _states(machine: Machine) -> Iterator[str]:
    yield machine.state.value
    if machine.cordoned:
        yield "cordoned"
    own = [check for check in machine.checks if check.name in machine.config.checks]
    for check in own or machine.checks:
        yield f"{check.name} {check.status}" + (
            f": {check.output.strip()[:80]}" if check.status != "passing" and check.output else ""
        )


def read_line(region: str, answer: Answer, serving: Iterable[str]) -> Line:
    """Judge a read of what may be old: by the region's own machines where any serve there."""
    near = tuple(serving)
    wanted = region if region in near else " or ".join(near) or "some region"
    ruling, seen = _answered(answer)
    if ruling is Ruling.KEPT and not answer.region:
        ruling, seen = Ruling.UNKNOWN, "nobody said who answered"
    elif ruling is Ruling.KEPT and near and answer.region not in wanted.split(" or "):
        ruling, seen = Ruling.BROKEN, f"{answer.region} answered"
    return _told(answer, Line("eventual read", region, ruling, seen, f"answered by {wanted}"))


def strong_line(region: str, answer: Answer, primary: str | None) -> Line:
    """Judge a strong read: by the primary's region."""
    return _at_primary("strong read", region, answer, primary)


def write_line(region: str, answer: Answer, primary: str | None) -> Line:
    """Judge a write: by the primary's region."""
    return _at_primary("write", region, answer, primary)


def replay_line(region: str, answers: Iterable[Answer], primary: str | None) -> Line:
    """Judge whether what was answered with fly-replay was brought to the primary's region."""
    told = [answer for answer in answers if answer.route]
    wanted = f"fly-replay followed to {primary}"
    stuck = [answer for answer in told if "fly-replay" in answer.headers]
    moved = [answer for answer in told if answer.region == primary and answer.status < 400]
    if stuck:
        ruling, seen = Ruling.BROKEN, f"{stuck[0].status} with fly-replay reached the user"
    elif primary is None or not told:
        ruling, seen = Ruling.UNKNOWN, "no request of the runtime's was replayed"
    elif len(moved) == len(told):
        ruling, seen = Ruling.KEPT, f"{len(moved)} of {len(told)} were brought there"
    else:
        ruling, seen = Ruling.BROKEN, f"{len(moved)} of {len(told)} were brought there"
    return Line("replay", region, ruling, seen, wanted)


def token_line(writer: str, reader: str, written: Answer, read: Answer, value: int | None) -> Line:
    """Judge a read, in one region, of what the same client has written in another.

    ``value`` is what must be found, None where it cannot be looked for.
    """
    name, wanted = f"token of {writer}", "its own write is read"
    ruling, seen = _answered(read)
    if not written.headers.get("viral-session"):
        ruling, seen = Ruling.UNKNOWN, "the write brought no session token"
    elif "viral-session-lost" in read.headers:
        ruling, seen = Ruling.BROKEN, "its write was lost"
    elif read.status == 404:
        ruling, seen = Ruling.BROKEN, "its write is not there"
    elif ruling is Ruling.KEPT:
        ruling, seen = _read_back(read, value)
    return _told(read, Line(name, reader, ruling, seen, wanted))


def _read_back(read: Answer, value: int | None) -> tuple[Ruling, str]:
    if value is None:
        return Ruling.UNKNOWN, "what this app wrote cannot be looked for"
    found = (read.body or {}).get("value")
    if found == value:
        return Ruling.KEPT, "it read what it wrote"
    return Ruling.BROKEN, f"it read {found}, and had written {value}"


def no_database_line(provider: Provider) -> Line:
    """Judge that no database machine is there, which is as it should be where somebody else has it."""
    if provider is Provider.EXTERNAL:
        seen = "somebody else runs the databases: they were not asked"
        return Line("primary", "", Ruling.UNKNOWN, seen, "one acknowledges")
    return Line("primary", "", Ruling.BROKEN, "there is no database", "one is there")


def replication_lines(formation: Formation, lags: Mapping[str, float | None]) -> Iterator[Line]:
    """Judge the primary and each replica, as they say it themselves; lags in seconds by region."""
    primary = formation.primary
    well = primary is not None and primary.acknowledges
    yield Line(
        "primary", primary.region if primary else "",
        Ruling.KEPT if well else Ruling.BROKEN,
        f"{primary.region} acknowledges" if primary and well else "nobody acknowledges writes",
        "one acknowledges",
    )  # fmt: skip
    for one in formation.databases:
        if one is not primary:
            yield _replica(one, lags.get(one.region))
    yield _synchronous(formation, primary)


def _synchronous(formation: Formation, primary: Standing | None) -> Line:
    name, wanted = "synchronous", "another region confirms each commit"
    if len(formation.databases) < 2:
        return Line(name, "", Ruling.UNKNOWN, "there is one database only", wanted)
    if primary is None:
        return Line(name, "", Ruling.UNKNOWN, "there is no primary to say so", wanted)
    others = [region for region in primary.synchronous if region != primary.region]
    ruling = Ruling.KEPT if others else Ruling.BROKEN
    return Line(name, "", ruling, ", ".join(others) or "no standby does", wanted)


def _replica(one: Standing, lag: float | None) -> Line:
    wanted = "it streams"
    if one.error:
        return Line("replication", one.region, Ruling.UNKNOWN, one.error, wanted)
    behind = "its lag is unknown" if lag is None else f"{lag:.3f} s behind"
    if not one.streaming:
        return Line("replication", one.region, Ruling.BROKEN, f"no stream, {behind}", wanted)
    return Line("replication", one.region, Ruling.KEPT, f"streams, {behind}", wanted)


def certificate_line(hostname: str, certificate: Certificate | None) -> Line:
    """Judge the certificate of a hostname by what the platform says."""
    if certificate is None:
        ruling, seen = Ruling.BROKEN, "there is none"
    else:
        ruling = Ruling.KEPT if certificate.configured else Ruling.BROKEN
        seen = certificate.status or ("configured" if certificate.configured else "not issued yet")
    return Line(f"certificate {hostname}", "", ruling, seen, "issued, and its DNS leads here")


def _at_primary(name: str, region: str, answer: Answer, primary: str | None) -> Line:
    wanted = f"answered by {primary or 'the primary'}"
    ruling, seen = _answered(answer)
    if ruling is Ruling.KEPT and not answer.route:
        ruling, seen = Ruling.UNKNOWN, NO_RUNTIME
    elif ruling is Ruling.KEPT and primary is None:
        ruling, seen = Ruling.UNKNOWN, "who is primary is not known"
    elif ruling is Ruling.KEPT and answer.region != primary:
        ruling, seen = Ruling.BROKEN, f"{answer.region} answered"
    return _told(answer, Line(name, region, ruling, seen, wanted))


def _answered(answer: Answer) -> tuple[Ruling, str]:
    if answer.error:
        return Ruling.BROKEN, answer.error
    if answer.status >= 500:
        return Ruling.BROKEN, f"{answer.status}"
    if answer.status >= 400:
        return Ruling.UNKNOWN, f"{answer.status}: this path does not serve to be asked"
    return Ruling.KEPT, f"{answer.status}"


def _told(answer: Answer, line: Line) -> Line:
    """The line with who answered, and how."""
    return replace(
        line, answered_by=answer.region or None, route=answer.route or None,
        latency_ms=None if answer.error else answer.latency_ms,
    )  # fmt: skip
