"""Which machines an edge finds healthy itself, which is what decides where its traffic goes."""

from __future__ import annotations

from typing import Any, Final

import httpx

from viral_engine.errors import GlobeError
from viral_engine.globe.edge.model import Backend, EdgeView, HttpService, TcpService

HEALTHY: Final = {"eds_health_status": "HEALTHY"}


async def healthy(view: EdgeView, *, timeout_s: float = 2.0) -> dict[str, frozenset[str]]:
    """Ask a running edge for the healthy machines of each of its services, by machine id.

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
    """Find the healthy machines of each service in what Envoy tells of its clusters."""
    up = {
        (cluster["name"], socket["address"], socket["port_value"])
        for cluster in told.get("cluster_statuses", ())
        for host in cluster.get("host_statuses", ())
        if host.get("health_status") == HEALTHY
        for socket in [host["address"]["socket_address"]]
    }

    def is_up(service: str, backend: Backend) -> bool:
        return (service, backend.address, backend.port) in up

    services: tuple[HttpService | TcpService, ...] = (*view.http, *view.tcp)
    return {
        service.name: frozenset(b.machine_id for b in service.backends if is_up(service.name, b))
        for service in services
    }
