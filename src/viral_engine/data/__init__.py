"""Reading and writing across regions.

This room knows where a request must go (``decide``), holds the connections to do it (``Databases``)
and remembers for one request which route was taken and what its client has seen. It refuses to know HTTP: what a route means
for an answer is said in ``web``; and it never parses SQL to guess what a statement does.
"""

from viral_engine.data.blocks import at_primary
from viral_engine.data.branches import Lost, settle
from viral_engine.data.conflicts import (
    Current,
    Incoming,
    Keep,
    LastWriterWins,
    Refuse,
    Reject,
    Resolve,
    Store,
    Strategy,
    settle_conflict,
)
from viral_engine.data.databases import Databases, RequestTransaction
from viral_engine.data.decide import MOVED, Need, Route, RouteKind, decide
from viral_engine.data.hybrid_clock import HybridClock, HybridTime
from viral_engine.data.once import FirstAnswer, RequestKey
from viral_engine.data.request import Detour, RequestRoute, current_route, routed, routed_as
from viral_engine.data.router import Router, WatchesCluster, need_of, route_read
from viral_engine.data.session import Session
from viral_engine.data.statements import read_statements
from viral_engine.data.token import Ignored, SessionToken, TokenSigner
from viral_engine.data.versions import Expected, TagList, judge, parse_tags, version_tag

__all__ = [
    "MOVED",
    "Current",
    "Databases",
    "Detour",
    "Expected",
    "FirstAnswer",
    "HybridClock",
    "HybridTime",
    "Ignored",
    "Incoming",
    "Keep",
    "LastWriterWins",
    "Lost",
    "Need",
    "Refuse",
    "Reject",
    "RequestKey",
    "RequestRoute",
    "RequestTransaction",
    "Resolve",
    "Route",
    "RouteKind",
    "Router",
    "Session",
    "SessionToken",
    "Store",
    "Strategy",
    "TagList",
    "TokenSigner",
    "WatchesCluster",
    "at_primary",
    "current_route",
    "decide",
    "judge",
    "need_of",
    "parse_tags",
    "read_statements",
    "route_read",
    "routed",
    "routed_as",
    "settle",
    "settle_conflict",
    "version_tag",
]
