from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from viral_engine.observe.events import (
    CircuitClosed,
    CircuitOpened,
    Event,
    NodeAnswered,
    NodeLost,
    PrimaryChanged,
    RequestRouted,
)

__all__ = ["CONTENT_TYPE", "RuntimeMetrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# From a replica that had it a moment later to one that never came (seconds).
_WAITS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2)


class RuntimeMetrics:
    """Counts the events of one process for Prometheus; a listener like any other.

    ``viral_requests_total`` by route and reason, ``viral_replica_wait_seconds`` of what was waited,
    ``viral_database_up`` by region, ``viral_primary`` 1 for the region that is seen as primary,
    ``viral_circuit_open`` by what is not asked at the moment.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._routed = Counter(
            "viral_requests", "Requests by route and its reason", ("route", "reason"),
            registry=self._registry,
        )  # fmt: skip
        self._waits = Histogram(
            "viral_replica_wait_seconds", "How long reads waited for their replica",
            buckets=_WAITS, registry=self._registry,
        )  # fmt: skip
        self._up = Gauge(
            "viral_database_up", "Whether a region's database answers this process", ("region",),
            registry=self._registry,
        )  # fmt: skip
        self._primary = Gauge(
            "viral_primary", "Where this process sees the primary", ("region",),
            registry=self._registry,
        )  # fmt: skip
        self._circuits = Gauge(
            "viral_circuit_open", "Whether something failed and is not asked for a moment", ("name",),
            registry=self._registry,
        )  # fmt: skip
        self._children: dict[tuple[str, str], Counter] = {}

    def __call__(self, event: Event) -> None:
        """Count one event."""
        match event:
            case RequestRouted():
                self._count(event)
            case NodeLost():
                self._up.labels(event.region).set(0)
            case NodeAnswered():
                self._up.labels(event.region).set(1)
            case CircuitOpened() | CircuitClosed():
                self._circuits.labels(event.name).set(isinstance(event, CircuitOpened))
            case PrimaryChanged():
                for region, is_primary in ((event.was, 0), (event.now, 1)):
                    if region is not None:
                        self._primary.labels(region).set(is_primary)

    def text(self) -> bytes:
        """Return all figures as Prometheus reads them."""
        return generate_latest(self._registry)

    def _count(self, event: RequestRouted) -> None:
        key = (event.route, event.reason)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._routed.labels(*key)
        child.inc()
        if event.waited_s:
            self._waits.observe(event.waited_s)
