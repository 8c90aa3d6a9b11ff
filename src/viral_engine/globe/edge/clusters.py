"""The machines behind a service, as Envoy's clusters and endpoints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from viral_engine.globe.edge.model import Backend, Check, EdgeView, HttpService, TcpService
from viral_engine.globe.edge.wire import Json, file_source, seconds, typed

KEY_MACHINE: Final = "machine"
KEY_REGION: Final = "region"

# Fly keeps idle connections to a machine for about 4 s, and uvicorn closes them after 5 s: the edge
# has to be the one that lets go first, or a POST meets a connection that is just being closed.
IDLE_CONNECTION_S: Final = 4.0
HTTP_CONNECT_S: Final = 1.0
TCP_CONNECT_S: Final = 3.0
SILENT_PEER_S: Final = 4.0

# A region keeps all its traffic as long as one machine in a thousand is healthy there.
OVERPROVISIONING: Final = 100_000
UNLIMITED: Final = 1_000_000


def cluster(service: HttpService | TcpService, folder: str, *, toward: str | None = None) -> Json:
    """Say how the machines of a service are found, checked and chosen.

    One ``toward`` a region is for replays to there that may fall back to the edge's own region.
    """
    http = isinstance(service, HttpService)
    name = cluster_name(service, toward)
    made: Json = {
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": file_source(folder, endpoints_file(name))},
        "connect_timeout": seconds(HTTP_CONNECT_S if http else TCP_CONNECT_S),
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {
            "healthy_panic_threshold": {"value": 0},
            "ignore_new_hosts_until_first_hc": service.check is not None,
            "update_merge_window": seconds(0),  # else a second failure waits up to 1 s to count
        },
        "ignore_health_on_host_removal": True,
        "wait_for_warm_on_init": False,
        "upstream_connection_options": _keepalive(),
        "circuit_breakers": _no_limits(),
    }
    if sys.platform == "linux":
        made["upstream_bind_config"] = _user_timeout()
    if service.check is not None:
        made["health_checks"] = [_health_check(service.check)]
    if http:
        if toward is None:
            made["lb_subset_config"] = _subsets()
        made["typed_extension_protocol_options"] = _http_pool()
    else:
        made["close_connections_on_host_health_failure"] = True
    return typed("envoy.config.cluster.v3.Cluster", made)


def cluster_name(service: HttpService | TcpService, toward: str | None) -> str:
    """Name the cluster of a service, or of its replays toward a region."""
    return service.name if toward is None else f"{service.name}~{toward}"


def directions(service: HttpService | TcpService, view: EdgeView) -> tuple[str | None, ...]:
    """Return which clusters a service has: one for users, and one toward each other region."""
    if not isinstance(service, HttpService):
        return (None,)
    return (None, *(region for region in view.regions_by_rtt if region != view.region))


def endpoints(
    service: HttpService | TcpService, view: EdgeView, *, toward: str | None = None
) -> Json:
    """List the machines of a service; every region has its own priority, nearest first.

    Regions without a machine keep their place, so that a region's first machine moves no other.
    ``toward`` a region that one comes first and the edge's own second.
    """
    port = service.check.port if service.check else None
    regions: Sequence[str] = (
        view.regions_by_rtt if isinstance(service, HttpService) else (view.region,)
    )
    if toward is not None:
        regions = (toward, view.region)
    return typed(
        "envoy.config.endpoint.v3.ClusterLoadAssignment",
        {
            "cluster_name": cluster_name(service, toward),
            "policy": {"overprovisioning_factor": OVERPROVISIONING},
            "endpoints": [
                {
                    "priority": priority,
                    "locality": {"region": region},
                    "lb_endpoints": [
                        _endpoint(backend, port)
                        for backend in service.backends
                        if backend.region == region or not isinstance(service, HttpService)
                    ],
                }
                for priority, region in enumerate(regions)
            ],
        },
    )


def endpoints_file(cluster: str) -> str:
    """Name the file that lists the machines of a cluster."""
    return f"endpoints-{cluster}.json"


def _endpoint(backend: Backend, check_port: int | None) -> Json:
    endpoint: Json = {"address": socket(backend.address, backend.port)}
    if check_port is not None:
        endpoint["health_check_config"] = {"port_value": check_port}
    labels = {KEY_MACHINE: backend.machine_id, KEY_REGION: backend.region}
    return {"endpoint": endpoint, "metadata": {"filter_metadata": {"envoy.lb": labels}}}


def socket(address: str, port: int) -> Json:
    """Say an address and a port in Envoy's words."""
    return {"socket_address": {"address": address, "port_value": port}}


def _health_check(check: Check) -> Json:
    interval = seconds(check.interval_s)
    made: Json = {
        "timeout": seconds(check.timeout_s),
        "interval": interval,
        "no_traffic_interval": interval,
        "no_traffic_healthy_interval": interval,
        "unhealthy_threshold": check.failures,
        "healthy_threshold": 1,
    }
    if check.path is None:
        return made | {"tcp_health_check": {}}
    return made | {
        "http_health_check": {
            "path": check.path,
            "expected_statuses": [{"start": 200, "end": 300}],
            "request_headers_to_add": [
                {"header": {"key": key, "value": value}} for key, value in check.headers
            ],
        }
    }


def _subsets() -> Json:
    """Let a request ask for a machine or a region, or for a list of them in order."""
    return {
        "fallback_policy": "ANY_ENDPOINT",
        "metadata_fallback_policy": "FALLBACK_LIST",
        "subset_selectors": [
            {"keys": [key], "fallback_policy": "NO_FALLBACK"} for key in (KEY_MACHINE, KEY_REGION)
        ],
    }


def _http_pool() -> Json:
    options = {
        "explicit_http_config": {"http_protocol_options": {}},
        "common_http_protocol_options": {"idle_timeout": seconds(IDLE_CONNECTION_S)},
    }
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {name: typed(name, options)}


def _keepalive() -> Json:
    return {"tcp_keepalive": {"keepalive_time": 3, "keepalive_interval": 1, "keepalive_probes": 3}}


def _user_timeout() -> Json:
    """Give up a connection whose peer acknowledges nothing: health alone must not cut live ones."""
    option = {
        "description": "TCP_USER_TIMEOUT",
        "level": 6,
        "name": 18,
        "int_value": int(SILENT_PEER_S * 1000),
        "state": "STATE_PREBIND",
    }
    return {"socket_options": [option]}


def _no_limits() -> Json:
    limits = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"thresholds": [dict.fromkeys(limits, UNLIMITED)]}
