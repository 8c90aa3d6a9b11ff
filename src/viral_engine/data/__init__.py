"""Reading and writing across regions.

This room knows where a request must go (``decide``), holds the connections to do it (``Databases``)
and remembers for one request which route was taken and what its client has seen. It refuses to know HTTP: what a route means
for an answer is said in ``web``; and it never parses SQL to guess what a statement does.
"""

from viral_engine.data.databases import Databases
from viral_engine.data.decide import Need, Route, RouteKind, decide
from viral_engine.data.request import RequestRoute, current_route, routed
from viral_engine.data.router import WatchesCluster, route_read
from viral_engine.data.session import Session
from viral_engine.data.statements import read_statements
from viral_engine.data.token import Ignored, SessionToken, TokenKind, TokenSigner

__all__ = [
    "Databases",
    "Ignored",
    "Need",
    "RequestRoute",
    "Route",
    "RouteKind",
    "Session",
    "SessionToken",
    "TokenKind",
    "TokenSigner",
    "WatchesCluster",
    "current_route",
    "decide",
    "read_statements",
    "route_read",
    "routed",
]
