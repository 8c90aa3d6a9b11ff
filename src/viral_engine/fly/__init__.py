"""The wire of the platform: Fly's Machines API, as data and as a client.

This room knows how to speak to a platform by its base URL, and nothing of who is behind it: the
same client talks to Fly.io and to the globe on a laptop. It decides nothing about deployments.
"""

from viral_engine.fly.client import FlyClient
from viral_engine.fly.extension import GlobeExtension
from viral_engine.fly.model import App, ExecResult, Machine, MachineConfig, MachineState, Volume

__all__ = [
    "App",
    "ExecResult",
    "FlyClient",
    "GlobeExtension",
    "Machine",
    "MachineConfig",
    "MachineState",
    "Volume",
]
