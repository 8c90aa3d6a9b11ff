"""Who is primary.

This room knows the database nodes of every region: their role, timeline and position, how far a
replica is behind, and which of them answers at all. It asks the databases themselves; an
environment variable is never proof of a role. It speaks to etcd, and decides over a key there which
node alone may acknowledge. It refuses to know what a request wants: where to read and write is
decided one room higher, in ``data``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from viral_engine.cluster.addresses import DatabaseAddresses
    from viral_engine.cluster.view import ClusterView, NodeView, Role
    from viral_engine.cluster.watcher import ClusterWatcher

__all__ = ["ClusterView", "ClusterWatcher", "DatabaseAddresses", "NodeView", "Role"]

_PLACES = {
    "ClusterView": "view",
    "ClusterWatcher": "watcher",
    "DatabaseAddresses": "addresses",
    "NodeView": "view",
    "Role": "view",
}


def __getattr__(name: str) -> object:
    # A machine's node process needs the store and no database driver: it would start 0.2 s later.
    if name not in _PLACES:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
