"""An edge is told of the machines that may serve, and of no others."""

from __future__ import annotations

from typing import Any

import pytest

from viral_engine.fly.model import MachineConfig, MachineState
from viral_engine.globe.machines.record import MachineRecord
from viral_engine.globe.network.addresses import AddressPlan, NetworkMode
from viral_engine.globe.traffic import (
    HTTP_PORT,
    LONGEST_PROBE_INTERVAL,
    LONGEST_PROBE_TIMEOUT,
    view_of,
)

PLAN = AddressPlan(NetworkMode.WAN, ("iad", "lhr", "nrt"))
WEB: dict[str, Any] = {"internal_port": 9000, "ports": [{"port": 443, "handlers": ["tls", "http"]}]}
DATABASE: dict[str, Any] = {"internal_port": 5432, "ports": [{"port": 6543}]}


def machine(
    service: dict[str, Any], region: str = "iad", number: int = 0, app: str = "shop"
) -> MachineRecord:
    config = MachineConfig.model_validate({"image": "x", "services": [service]})
    address = PLAN.machine(region, number)
    made = MachineRecord(f"{region}{number}", app, "n", region, number, address, config)
    made.state = MachineState.STARTED
    return made


def test_http_and_tcp_services_are_told_apart_by_their_handlers() -> None:
    view = view_of("lhr", plan=PLAN, machines=[machine(WEB), machine(DATABASE, number=1)])
    assert [(s.name, s.port) for s in view.http] == [("shop-9000", HTTP_PORT)]
    assert [(s.name, s.port) for s in view.tcp] == [("shop-5432", 6543)]
    assert view.http[0].backends[0].address == "10.10.1.10"
    assert view.http[0].backends[0].port == 9000
    assert view.addresses == ("10.10.2.1", "10.12.0.1")
    assert view.private_address == "10.10.2.1"
    assert view.regions_by_rtt[0] == "lhr"
    assert sorted(view.regions_by_rtt) == sorted(PLAN.regions)


@pytest.mark.parametrize("state", [s for s in MachineState if s is not MachineState.STARTED])
def test_only_started_machines_serve(state: MachineState) -> None:
    made = machine(WEB)
    made.state = state
    assert view_of("iad", plan=PLAN, machines=[made]).http == ()


def test_a_cordoned_machine_is_left_out_and_the_other_stays() -> None:
    dark, other = machine(WEB), machine(WEB, "lhr")
    dark.cordoned = True
    view = view_of("iad", plan=PLAN, machines=[dark, other])
    assert [backend.region for backend in view.http[0].backends] == ["lhr"]


def test_services_of_different_apps_are_not_mixed() -> None:
    view = view_of("iad", plan=PLAN, machines=[machine(WEB), machine(WEB, number=1, app="two")])
    assert [service.name for service in view.http] == ["shop-9000", "two-9000"]
    assert all(len(service.backends) == 1 for service in view.http)


def test_the_edge_asks_often_enough_whatever_the_machines_own_check_says() -> None:
    check = {"type": "http", "path": "/up", "interval": "60s", "timeout": "30s", "port": 9001,
             "headers": [{"name": "x-a", "values": ["1", "2"]}]}  # fmt: skip
    seen = view_of("iad", plan=PLAN, machines=[machine(WEB | {"checks": [check]})]).http[0].check
    assert seen is not None
    assert (seen.interval_s, seen.timeout_s) == (LONGEST_PROBE_INTERVAL, LONGEST_PROBE_TIMEOUT)
    assert (seen.path, seen.port, seen.headers) == ("/up", 9001, (("x-a", "1, 2"),))


def test_a_service_without_a_check_is_asked_for_a_connection_only() -> None:
    seen = view_of("iad", plan=PLAN, machines=[machine(DATABASE)]).tcp[0].check
    assert seen is not None
    assert seen.path is None


def test_a_tcp_service_without_a_port_listens_on_the_machines_own() -> None:
    view = view_of("iad", plan=PLAN, machines=[machine({"internal_port": 7777})])
    assert view.tcp[0].port == 7777
