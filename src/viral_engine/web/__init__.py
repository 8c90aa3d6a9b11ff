"""The ASGI layer.

This room knows HTTP: which headers are ours, what a route means for an answer, how a request is
handed to another region and how a replay proves that it is one. It refuses to know any framework
and any table: each part wraps a plain ASGI app, somebody else's as well.
"""

from viral_engine.web.limits import BodyLimit
from viral_engine.web.region import RegionMiddleware
from viral_engine.web.runtime import Runtime
from viral_engine.web.signing import ReplaySigner

__all__ = ["BodyLimit", "RegionMiddleware", "ReplaySigner", "Runtime"]
