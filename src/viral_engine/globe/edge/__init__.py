"""The edge of a region: one Envoy, told by files what a platform's proxy would know.

This room turns a frozen view of the platform into Envoy's configuration, and knows nothing of how
machines are run or where the view comes from.
"""

from viral_engine.globe.edge.files import command, publish, render
from viral_engine.globe.edge.model import Backend, Check, EdgeView, HttpService, TcpService

__all__ = [
    "Backend",
    "Check",
    "EdgeView",
    "HttpService",
    "TcpService",
    "command",
    "publish",
    "render",
]
