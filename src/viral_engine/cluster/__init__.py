"""Who is primary.

This room knows the database nodes of every region: their role, timeline and position, how far a
replica is behind, and which of them answers at all. It asks the databases themselves; an
environment variable is never proof of a role. It refuses to know what a request wants: where to
read and write is decided one room higher, in ``data``.
"""

from viral_engine.cluster.addresses import DatabaseAddresses
from viral_engine.cluster.view import ClusterView, NodeView, Role
from viral_engine.cluster.watcher import ClusterWatcher

__all__ = ["ClusterView", "ClusterWatcher", "DatabaseAddresses", "NodeView", "Role"]
