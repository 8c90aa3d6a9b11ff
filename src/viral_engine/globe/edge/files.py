"""The files that Envoy reads: which there are, and how they are replaced while it runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from viral_engine.globe.edge.clusters import (
    cluster,
    cluster_name,
    directions,
    endpoints,
    endpoints_file,
)
from viral_engine.globe.edge.listeners import http_listener, tcp_listener
from viral_engine.globe.edge.model import EdgeView, HttpService, TcpService
from viral_engine.globe.edge.routes import routes, routes_file
from viral_engine.globe.edge.wire import Json, file_source, resources, typed

BOOTSTRAP: Final = "bootstrap.json"
CLUSTERS: Final = "clusters.json"
LISTENERS: Final = "listeners.json"
DRAIN_S: Final = 10
MOST_CONNECTIONS: Final = 50_000


def render(view: EdgeView, folder: Path) -> dict[str, Json]:
    """Turn what an edge knows into files, in the order in which they have to be written."""
    root = str(folder)
    services: tuple[HttpService | TcpService, ...] = (*view.http, *view.tcp)
    clusters = [(s, toward) for s in services for toward in directions(s, view)]
    files = {
        endpoints_file(cluster_name(s, toward)): resources(endpoints(s, view, toward=toward))
        for s, toward in clusters
    }
    files[CLUSTERS] = resources(*(cluster(s, root, toward=toward) for s, toward in clusters))
    files |= {routes_file(s.name): resources(routes(s, view)) for s in view.http}
    files[LISTENERS] = resources(
        *(http_listener(s, address, view, root) for s in view.http for address in view.addresses),
        *(tcp_listener(s, view) for s in view.tcp),
    )
    files[BOOTSTRAP] = _bootstrap(view, root)
    return files


def publish(folder: Path, files: Mapping[str, Json]) -> tuple[str, ...]:
    """Replace what changed, each file whole by a rename, and return the names of what was written.

    Files of services that are gone are deleted last, when nothing refers to them any more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in files.items():
        path = folder / name
        text = json.dumps(content, indent=1)
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        fresh = folder / f".{name}.new"
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, path)  # noqa: PTH105
        written.append(name)
    for path in folder.glob("*.json"):
        if path.name not in files:
            path.unlink()
    return tuple(written)


def command(folder: Path, envoy: Path) -> list[str]:
    """Say how the edge of a folder is started by the binary ``envoy``."""
    return [
        str(envoy),
        *("--config-path", str(folder / BOOTSTRAP)),
        *("--concurrency", "1"),
        "--disable-hot-restart",
        *("--drain-time-s", str(DRAIN_S)),
        *("--drain-strategy", "immediate"),
        *("--log-level", "warning"),
    ]


def _bootstrap(view: EdgeView, folder: str) -> Json:
    made: Json = {
        "node": {"id": f"edge-{view.region}", "cluster": "edge"},
        "overload_manager": {"resource_monitors": [_most_connections()]},
        "dynamic_resources": {
            "cds_config": file_source(folder, CLUSTERS),
            "lds_config": file_source(folder, LISTENERS),
        },
    }
    if view.admin is not None:
        made["admin"] = {"address": {"pipe": {"path": view.admin}}}
    return made


def _most_connections() -> Json:
    config = typed(
        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        {"max_active_downstream_connections": MOST_CONNECTIONS},
    )
    name = "envoy.resource_monitors.global_downstream_max_connections"
    return {"name": name, "typed_config": config}
