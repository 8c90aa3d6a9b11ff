"""What a deployment is: viral.toml in, frozen values out.

This room knows the regions of the platform and how far apart they are, the shape of a deployment
and every rule that makes one valid, what the parts of it are called in the environment, and where
a process finds itself. It refuses to know what is running: nothing here opens a socket, starts a
process or asks a platform.
"""

from viral_engine.topology.here import Here
from viral_engine.topology.load import load, load_folder
from viral_engine.topology.model import (
    Consistency,
    Deployment,
    RegionPlan,
    Strategy,
    default_deployment,
)
from viral_engine.topology.overrides import with_overrides
from viral_engine.topology.regions import Region, all_regions, nearest, region
from viral_engine.topology.rtt import by_distance, round_trip

__all__ = [
    "Consistency",
    "Deployment",
    "Here",
    "Region",
    "RegionPlan",
    "Strategy",
    "all_regions",
    "by_distance",
    "default_deployment",
    "load",
    "load_folder",
    "nearest",
    "region",
    "round_trip",
    "with_overrides",
]
