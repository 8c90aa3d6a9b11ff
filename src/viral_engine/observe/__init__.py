"""What happens.

This room knows the catalogue of typed events and how a machine writes its log: one JSON object a
line, which names the region and the machine. It refuses to know who raises an event and what an
operator does about it: logs, metrics and alerts are listeners.
"""

from viral_engine.observe.events import (
    CircuitClosed,
    CircuitOpened,
    Event,
    Listener,
    NodeAnswered,
    NodeLost,
    PrimaryChanged,
    RequestRouted,
)

__all__ = [
    "CircuitClosed",
    "CircuitOpened",
    "Event",
    "Listener",
    "NodeAnswered",
    "NodeLost",
    "PrimaryChanged",
    "RequestRouted",
]
