"""What a verification says of what was answered: kept is earned, and what was not seen is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from viral_engine.fly.model import Certificate, CheckStatus, Machine, MachineConfig, MachineState
from viral_engine.operations.blueprint import Place
from viral_engine.operations.formation import Formation, Standing
from viral_engine.operations.verifying.asks import Answer
from viral_engine.operations.verifying.judge import (
    certificate_line,
    machine_line,
    no_database_line,
    read_line,
    replay_line,
    replication_lines,
    strong_line,
    token_line,
    write_line,
)
from viral_engine.operations.verifying.probe import probe_of
from viral_engine.topology.model import Provider, Service, default_deployment

PLACE = Place("shop", "app-lhr-1", "lhr", "app")
KEPT, BROKEN, UNKNOWN = "kept", "broken", "unknown"


def answer(region: str, status: int = 200, **headers: str) -> Answer:
    named = {f"viral-{name}": value for name, value in headers.items()}
    return Answer(status, region, {"viral-route": "local; reason=x", **named}, 4.0)


def machine(*checks: str, state: MachineState = MachineState.STARTED, **fields: Any) -> Machine:
    found = tuple(CheckStatus(name=f"c{n}", status=s, updated_at="") for n, s in enumerate(checks))
    wire: Mapping[str, Any] = {
        "id": "m1", "name": "app-lhr-1", "region": "lhr", "instance_id": "1", "state": state,
        "private_ip": "", "created_at": "", "updated_at": "", "config": MachineConfig(image="x"),
        "checks": found,
    }  # fmt: skip
    return Machine.model_validate({**wire, **fields})


def test_a_database_that_somebody_else_runs_is_unknown_and_one_that_is_missing_broken() -> None:
    assert no_database_line(Provider.EXTERNAL).ruling == UNKNOWN
    assert no_database_line(Provider.VIRAL).ruling == BROKEN


STANDBY = MachineConfig(image="x", metadata={"viral_standby": "stopped"})


@pytest.mark.parametrize(
    ("found", "ruling"),
    [
        (machine("passing"), KEPT),
        (machine("passing", "critical"), BROKEN),
        (machine("passing", state=MachineState.STOPPED), BROKEN),
        (machine(state=MachineState.STOPPED, cordoned=True, config=STANDBY), KEPT),
        (machine("passing", cordoned=True), KEPT),
        (None, BROKEN),
    ],
)
def test_a_machine_is_judged_by_its_checks_and_one_that_stands_by_is_well(
    found: Machine | None, ruling: str
) -> None:
    assert machine_line(PLACE, found).ruling == ruling


@pytest.mark.parametrize(
    ("seen", "serving", "ruling"),
    [
        (answer("lhr"), ["iad", "lhr"], KEPT),
        (answer("iad"), ["iad", "lhr"], BROKEN),
        (answer("iad"), ["iad"], KEPT),
        (answer("", 200), ["lhr"], UNKNOWN),
        (answer("lhr", 404), ["lhr"], UNKNOWN),
        (answer("lhr", 503), ["lhr"], BROKEN),
        (Answer(error="refused"), ["lhr"], BROKEN),
    ],
)
def test_an_eventual_read_is_answered_near_where_anything_serves_there(
    seen: Answer, serving: list[str], ruling: str
) -> None:
    assert read_line("lhr", seen, serving).ruling == ruling


@pytest.mark.parametrize(
    ("seen", "primary", "ruling"),
    [
        (answer("iad"), "iad", KEPT),
        (answer("lhr"), "iad", BROKEN),
        (answer("iad"), None, UNKNOWN),
        (Answer(200, "iad"), "iad", UNKNOWN),
        (answer("iad", 503), "iad", BROKEN),
    ],
)
def test_strong_reads_and_writes_are_answered_at_the_primary(
    seen: Answer, primary: str | None, ruling: str
) -> None:
    for judged in (strong_line, write_line):
        line = judged("lhr", seen, primary)
        assert (line.ruling, line.answered_by) == (ruling, seen.region)


def test_a_replay_is_followed_or_it_reaches_the_user_who_must_never_see_it() -> None:
    stuck = Answer(409, "lhr", {"viral-route": "replay", "fly-replay": "region=iad"})
    assert replay_line("lhr", [answer("iad"), answer("iad")], "iad").ruling == KEPT
    assert replay_line("lhr", [answer("iad"), answer("lhr")], "iad").ruling == BROKEN
    assert replay_line("lhr", [answer("iad"), stuck], "iad").ruling == BROKEN
    assert replay_line("lhr", [Answer(200, "lhr")], "iad").ruling == UNKNOWN


def test_a_token_lets_its_client_read_its_own_write_in_another_region() -> None:
    written = answer("iad", session="t")
    read = answer("lhr")
    assert token_line("iad", "lhr", written, replace(read, body={"value": 7.0}), 7).ruling == KEPT
    for bad in (replace(read, body={"value": 6}), answer("lhr", 404), Answer(error="refused"),
                Answer(200, "lhr", {"viral-session-lost": "x"}, body={"value": 7})):  # fmt: skip
        assert token_line("iad", "lhr", written, bad, 7).ruling == BROKEN
    assert token_line("iad", "lhr", written, read, None).ruling == UNKNOWN
    assert token_line("iad", "lhr", answer("iad"), read, 7).ruling == UNKNOWN


def standing(region: str, role: str, **more: Any) -> Standing:
    return Standing(region, "db", f"m-{region}", role=role, **more)


def test_replication_is_what_the_databases_say_and_silence_is_unknown() -> None:
    primary = standing("iad", "primary", remaining_s=3.0, synchronous=("lhr",))
    streams = standing("lhr", "replica", streaming=True)

    def rulings(*databases: Standing) -> list[str]:
        return [line.ruling for line in replication_lines(Formation("iad", databases), {})]

    assert rulings(primary, streams) == [KEPT, KEPT, KEPT]
    assert rulings(replace(primary, synchronous=()), replace(streams, streaming=False)) == [
        KEPT, BROKEN, BROKEN
    ]  # fmt: skip
    assert rulings(replace(primary, remaining_s=0.0), streams) == [BROKEN, KEPT, KEPT]
    assert rulings(primary, replace(streams, error="silent")) == [KEPT, UNKNOWN, KEPT]
    assert rulings(primary) == [KEPT, UNKNOWN]
    assert rulings(streams) == [BROKEN, KEPT, UNKNOWN]


def test_a_certificate_is_there_when_the_platform_says_so() -> None:
    ready = Certificate(hostname="a.example.com", configured=True, status="Ready")
    assert certificate_line("a.example.com", ready).ruling == KEPT
    assert certificate_line("a", Certificate(hostname="a", status="Awaiting")).ruling == BROKEN
    assert certificate_line("a", None).ruling == BROKEN


def test_somebody_elses_app_is_written_to_only_where_its_owner_names_a_path() -> None:
    ours = default_deployment()
    theirs = replace(ours, service=Service(app="shop:app"))
    usual = probe_of(ours, reads=None, writes=None, may_write=True)
    assert (usual.write(3).body, usual.is_ours) == ({"value": 3}, True)
    assert usual.write(3).headers != usual.write(3).headers
    assert probe_of(ours, reads=None, writes=None, may_write=False).writes is None
    assert probe_of(theirs, reads=None, writes=None, may_write=True).writes is None
    told = probe_of(theirs, reads="/notes", writes="/probe", may_write=True)
    assert (told.reads, told.write(3).path, told.write(3).body) == ("/notes", "/probe", {})
