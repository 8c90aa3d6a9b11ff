"""The edge: one Envoy per region, between users and machines.

This room knows how Envoy is told what an edge should do: nearest healthy machine first, replays, retries,
the headers of the platform. It refuses to know how machines are made, what the network does between
regions, and who runs the process: it renders files, replaces them, and says the command.
"""

from viral_engine.globe.edge.files import command, publish, render
from viral_engine.globe.edge.health import healthy
from viral_engine.globe.edge.model import Backend, Check, EdgeView, HttpService, TcpService
from viral_engine.globe.edge.routes import ALIVE_PATH

__all__ = [
    "ALIVE_PATH",
    "Backend",
    "Check",
    "EdgeView",
    "HttpService",
    "TcpService",
    "command",
    "healthy",
    "publish",
    "render",
]
