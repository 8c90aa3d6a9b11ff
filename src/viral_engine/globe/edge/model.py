"""What one edge knows: its addresses, the services behind it, and the machines that serve them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backend:
    """One machine as an edge sees it; a cordoned machine is left out by the caller."""

    machine_id: str
    region: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Check:
    """How an edge finds out by itself whether a machine serves; healthy again after one success."""

    interval_s: float
    timeout_s: float
    path: str | None = None
    """Path that answers 2xx when healthy; none asks only for a TCP connection."""
    port: int | None = None
    """Where to ask, if not at the backend's own port."""
    headers: tuple[tuple[str, str], ...] = ()
    failures: int = 2
    """Consecutive silences that make a machine unhealthy; any answer but 2xx does so at once."""


@dataclass(frozen=True, slots=True)
class HttpService:
    """A service for users: balanced, replayed and retried request by request."""

    name: str
    port: int
    backends: tuple[Backend, ...]
    check: Check | None
    idle_timeout_s: float = 60.0
    """Silence after which a request, stream or WebSocket is cut."""


@dataclass(frozen=True, slots=True)
class TcpService:
    """A stable address for connections that must follow whichever backend passes its check."""

    name: str
    port: int
    backends: tuple[Backend, ...]
    check: Check | None


@dataclass(frozen=True, slots=True)
class EdgeView:
    """All that one edge knows.

    HTTP services are bound on every one of ``addresses``, TCP services on ``private_address`` only.
    ``regions_by_rtt`` names every region, nearest first. ``admin`` is the path of a unix socket
    (at most 100 bytes), or none for an edge that tells nothing about itself.
    """

    region: str
    addresses: tuple[str, ...]
    private_address: str
    regions_by_rtt: tuple[str, ...]
    http: tuple[HttpService, ...] = ()
    tcp: tuple[TcpService, ...] = ()
    admin: str | None = None
