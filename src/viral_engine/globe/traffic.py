"""What an edge should know, from what the platform knows: pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from viral_engine.fly.model import Check, MachineState, Service
from viral_engine.globe import edge
from viral_engine.globe.machines.record import MachineRecord
from viral_engine.globe.network.addresses import AddressPlan, NetworkMode
from viral_engine.topology.rtt import by_distance

HTTP_PORT = 8080
"""Where edges serve users: a port that needs no right of its own."""

LONGEST_PROBE_INTERVAL = 2.0
LONGEST_PROBE_TIMEOUT = 1.0
"""Seconds. An edge asks at least this often whatever the machine's own check says: a region that is
lost is routed around within two probes."""


def view_of(
    region: str, *, plan: AddressPlan, machines: Iterable[MachineRecord],
    admin: Path | None = None,
) -> edge.EdgeView:  # fmt: skip
    """Everything that the edge of ``region`` knows now: started, uncordoned machines only."""
    serving = [m for m in machines if m.state is MachineState.STARTED and not m.cordoned]
    http: dict[str, list[tuple[MachineRecord, Service]]] = defaultdict(list)
    tcp: dict[str, list[tuple[MachineRecord, Service]]] = defaultdict(list)
    for machine in serving:
        for service in machine.config.services:
            kind = http if any("http" in port.handlers for port in service.ports) else tcp
            kind[f"{machine.app}-{service.internal_port}"].append((machine, service))
    return edge.EdgeView(
        region=region,
        addresses=_addresses(region, plan),
        private_address=plan.edge(region),
        regions_by_rtt=by_distance(region, plan.regions),
        http=tuple(_http(name, members) for name, members in sorted(http.items())),
        tcp=tuple(_tcp(name, members) for name, members in sorted(tcp.items())),
        admin=str(admin) if admin is not None else None,
    )


def _addresses(region: str, plan: AddressPlan) -> tuple[str, ...]:
    """Where users reach the edge; on one shared loopback only one could have the anycast address."""
    if plan.mode is NetworkMode.FLAT:
        return (plan.edge(region),)
    return (plan.edge(region), plan.anycast)


def _http(name: str, members: list[tuple[MachineRecord, Service]]) -> edge.HttpService:
    return edge.HttpService(
        name=name, port=HTTP_PORT, backends=_backends(members), check=_check(members[0][1])
    )


def _tcp(name: str, members: list[tuple[MachineRecord, Service]]) -> edge.TcpService:
    service = members[0][1]
    listen = next((port.port for port in service.ports if port.port), service.internal_port)
    return edge.TcpService(
        name=name, port=listen, backends=_backends(members), check=_check(service)
    )


def _backends(members: list[tuple[MachineRecord, Service]]) -> tuple[edge.Backend, ...]:
    return tuple(
        edge.Backend(machine.id, machine.region, machine.private_ip, service.internal_port)
        for machine, service in members
    )


def _check(service: Service) -> edge.Check:
    """The edge's own probe: what the service's first check asks, at the edge's own pace."""
    check = service.checks[0] if service.checks else Check(type="tcp")
    return edge.Check(
        interval_s=min(check.interval.total_seconds(), LONGEST_PROBE_INTERVAL),
        timeout_s=min(check.timeout.total_seconds(), LONGEST_PROBE_TIMEOUT),
        path=check.path if check.type == "http" else None,
        port=check.port,
        headers=tuple((h.name, ", ".join(h.values)) for h in check.headers),
    )
