from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from viral_engine.errors import GlobeError
from viral_engine.globe.edge import (
    Backend,
    Check,
    EdgeView,
    HttpService,
    TcpService,
    command,
    healthy,
    publish,
    render,
)
from viral_engine.globe.edge.health import read

FOLDER = Path("/edges/lhr")
WEB = (
    Backend("a", "iad", "10.0.1.1", 8000),
    Backend("b", "lhr", "10.0.2.1", 8000),
    Backend("c", "lhr", "10.0.2.2", 8000),
)
DATABASES = (Backend("d", "iad", "10.0.1.9", 5432), Backend("e", "lhr", "10.0.2.9", 5432))
VIEW = EdgeView(
    region="lhr",
    addresses=("10.0.2.100", "10.9.9.9"),
    private_address="10.0.2.101",
    regions_by_rtt=("lhr", "nrt", "iad"),
    http=(HttpService("web", 8080, WEB, Check(1, 1, "/health"), 120),),
    tcp=(TcpService("postgresql", 5432, DATABASES, Check(1, 1, "/primary", 8008)),),
    admin="/edges/lhr.sock",
)


def changed(view: EdgeView) -> set[str]:
    before, after = render(VIEW, FOLDER), render(view, FOLDER)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def only(files: dict[str, Any], name: str) -> Any:
    (resource,) = files[name]["resources"]
    return resource


def test_every_region_has_its_own_priority_in_the_order_of_distance() -> None:
    localities = only(render(VIEW, FOLDER), "endpoints-web.json")["endpoints"]
    told = [
        (loc["priority"], loc["locality"]["region"], len(loc["lb_endpoints"])) for loc in localities
    ]
    assert told == [(0, "lhr", 2), (1, "nrt", 0), (2, "iad", 1)]


def test_a_replay_that_may_fall_back_has_its_region_first_and_the_edges_own_second() -> None:
    localities = only(render(VIEW, FOLDER), "endpoints-web~iad.json")["endpoints"]
    told = [
        (loc["priority"], loc["locality"]["region"], len(loc["lb_endpoints"])) for loc in localities
    ]
    assert told == [(0, "iad", 1), (1, "lhr", 2)]


def test_databases_have_no_order_since_only_the_primary_is_healthy() -> None:
    (locality,) = only(render(VIEW, FOLDER), "endpoints-postgresql.json")["endpoints"]
    endpoints = [e["endpoint"] for e in locality["lb_endpoints"]]
    assert [e["health_check_config"] for e in endpoints] == [{"port_value": 8008}] * 2
    assert locality["priority"] == 0


def test_a_machine_that_comes_or_goes_touches_no_listener_and_no_cluster() -> None:
    (web,) = VIEW.http
    assert changed(replace(VIEW, http=(replace(web, backends=WEB[:1]),))) == {
        "endpoints-web.json",
        "endpoints-web~iad.json",
        "endpoints-web~nrt.json",
        "routes-web.json",
    }


def test_an_address_that_comes_or_goes_touches_only_the_listeners() -> None:
    assert changed(replace(VIEW, addresses=VIEW.addresses[:1])) == {"listeners.json"}


def test_http_is_bound_on_every_address_and_tcp_on_the_private_one() -> None:
    listeners = render(VIEW, FOLDER)["listeners.json"]["resources"]
    bound = [
        (found["address"], found["port_value"])
        for listener in listeners
        for found in [listener["address"]["socket_address"]]
    ]
    assert bound == [("10.0.2.100", 8080), ("10.9.9.9", 8080), ("10.0.2.101", 5432)]
    assert len({listener["name"] for listener in listeners}) == 3


def test_what_others_refer_to_is_written_before_them() -> None:
    names = list(render(VIEW, FOLDER))
    order = ["endpoints-web.json", "clusters.json", "routes-web.json", "listeners.json"]
    assert sorted(order, key=names.index) == order


def test_rendering_is_deterministic_and_is_json() -> None:
    assert json.dumps(render(VIEW, FOLDER)) == json.dumps(render(VIEW, FOLDER))


def test_an_edge_without_admin_opens_none() -> None:
    assert "admin" in render(VIEW, FOLDER)["bootstrap.json"]
    assert "admin" not in render(replace(VIEW, admin=None), FOLDER)["bootstrap.json"]


def test_a_service_without_check_trusts_its_machines() -> None:
    (web,) = VIEW.http
    files = render(replace(VIEW, http=(replace(web, check=None),), tcp=()), FOLDER)
    for cluster in files["clusters.json"]["resources"]:
        assert "health_checks" not in cluster
        assert cluster["common_lb_config"]["ignore_new_hosts_until_first_hc"] is False


def test_only_what_changed_is_written_and_what_is_gone_is_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "edge"
    files = render(VIEW, folder)
    assert publish(folder, files) == tuple(files)
    assert publish(folder, files) == ()
    (web,) = VIEW.http
    fewer = replace(VIEW, http=(replace(web, backends=WEB[1:]),))
    assert publish(folder, render(fewer, folder)) == (
        "endpoints-web.json",
        "endpoints-web~iad.json",
        "routes-web.json",
    )
    publish(folder, render(replace(VIEW, tcp=()), folder))
    left = sorted(path.name for path in folder.iterdir())
    assert left == sorted(render(replace(VIEW, tcp=()), folder))


def test_envoy_is_started_small_and_without_hot_restart() -> None:
    line = command(FOLDER, Path("/usr/bin/envoy"))
    assert line[0] == "/usr/bin/envoy"
    assert line[1:3] == ["--config-path", "/edges/lhr/bootstrap.json"]
    assert {"--disable-hot-restart", "--concurrency"} < set(line)


def test_health_is_told_by_machine_and_not_before_the_first_check() -> None:
    def host(address: str, port: int, **status: Any) -> dict[str, Any]:
        socket = {"socket_address": {"address": address, "port_value": port}}
        return {"address": socket, "health_status": {"eds_health_status": "HEALTHY"} | status}

    told = {
        "cluster_statuses": [
            {
                "name": "web",
                "host_statuses": [
                    host("10.0.1.1", 8000),
                    host("10.0.2.1", 8000, failed_active_health_check=True),
                    host("10.0.2.2", 8000, pending_active_hc=True),
                ],
            },
            {"name": "postgresql"},
        ]
    }
    nobody: frozenset[str] = frozenset()
    toward = {f"web~{region}": nobody for region in VIEW.regions_by_rtt if region != VIEW.region}
    assert read(VIEW, told) == {"web": frozenset({"a"}), **toward, "postgresql": nobody}


async def test_an_edge_that_cannot_be_asked_says_so() -> None:
    with pytest.raises(GlobeError, match="no admin socket"):
        await healthy(replace(VIEW, admin=None))
