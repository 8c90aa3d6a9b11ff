"""Reading and writing across regions.

This room knows where a request must go (``decide``), holds the connections to do it (``Databases``)
and remembers for one request which route was taken. It refuses to know HTTP: what a route means
for an answer is said in ``web``; and it never parses SQL to guess what a statement does.
"""

from viral_engine.data.databases import Databases
from viral_engine.data.decide import Need, Route, RouteKind, decide
from viral_engine.data.request import RequestRoute, current_route, routed
from viral_engine.data.statements import read_statements

__all__ = [
    "Databases",
    "Need",
    "RequestRoute",
    "Route",
    "RouteKind",
    "current_route",
    "decide",
    "read_statements",
    "routed",
]
