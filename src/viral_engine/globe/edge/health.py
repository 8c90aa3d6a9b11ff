"""Which machines an edge finds healthy itself, which is what decides where its traffic goes."""

from __future__ import annotations

from typing import Any, Final

import httpx

from viral_engine.errors import GlobeError
from viral_engine.globe.edge.clusters import cluster_name, directions
from viral_engine.globe.edge.model import EdgeView, HttpService, TcpService

HEALTHY: Final = {"eds_health_status": "HEALTHY"}


async def healthy(view: EdgeView, *, timeout_s: float = 2.0) -> dict[str, frozenset[str]]:
    """Ask a running edge for the healthy machines of each of its clusters, by machine id.

    Users and replays toward each region have clusters of their own, and each makes its own checks.

    Raises GlobeError when the edge has no admin socket, or does not answer on it in time.
    """
    if view.admin is None:
        raise GlobeError(f"The edge of {view.region} has no admin socket.")
    transport = httpx.AsyncHTTPTransport(uds=view.admin)
    try:
        async with httpx.AsyncClient(transport=transport, timeout=timeout_s) as client:
            told = (await client.get("http://edge/clusters?format=json")).json()
    except (httpx.HTTPError, ValueError) as failure:
        raise GlobeError(f"The edge of {view.region} does not answer.") from failure
    return read(view, told)


def read(view: EdgeView, told: Any) -> dict[str, frozenset[str]]:
    """Find the healthy machines of each cluster in what Envoy tells; one that left goes by address."""
    up: dict[str, set[tuple[str, int]]] = {
        cluster["name"]: {
            (socket["address"], socket["port_value"])
            for host in cluster.get("host_statuses", ())
            if host.get("health_status") == HEALTHY
            for socket in [host["address"]["socket_address"]]
        }
        for cluster in told.get("cluster_statuses", ())
    }
    services: tuple[HttpService | TcpService, ...] = (*view.http, *view.tcp)
    found: dict[str, frozenset[str]] = {}
    for service in services:
        names = {
            (backend.address, backend.port): backend.machine_id for backend in service.backends
        }
        for toward in directions(service, view):
            name = cluster_name(service, toward)
            found[name] = frozenset(names.get(at, f"{at[0]}:{at[1]}") for at in up.get(name, ()))
    return found
