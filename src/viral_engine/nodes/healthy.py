from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from viral_engine.cluster.wire import UnreachableError, call
from viral_engine.nodes.machine import CACHE_PORT, ETCD_CLIENT_PORT, PATRONI_PORT, netloc
from viral_engine.topology.here import Here

__all__ = ["ailment"]

DEFAULT_HEALTH_PATH = "/api/health"
ANSWER_LIMIT_S = 2.0


async def ailment(environ: Mapping[str, str]) -> str:
    """Say what is wrong with what this machine runs, empty for nothing.

    FLY_PROCESS_GROUP says what that is, an app where it is unset; each is asked what the platform's
    own check of such a machine asks. Raises MisuseError for a faulty environment.
    """
    here = Here.from_environ(environ)
    match environ.get("FLY_PROCESS_GROUP") or "app":
        case "database":
            return await _asked(here.private_ip, PATRONI_PORT, "/readiness")
        case "witness":
            return await _asked(here.private_ip, ETCD_CLIENT_PORT, "/health")
        case "cache":
            return await _connected(here.private_ip, CACHE_PORT)
        case _:
            # On Fly.io the process listens on every IPv4 address, since the machine's own is IPv6.
            host = here.private_ip if "." in here.private_ip else "127.0.0.1"
            path = environ.get("VIRAL_HEALTH_PATH") or DEFAULT_HEALTH_PATH
            return await _asked(host, here.port, path)


async def _asked(host: str, port: int, path: str) -> str:
    try:
        reply = await call(f"http://{netloc(host, port)}{path}")
    except UnreachableError as error:
        return str(error)
    return "" if 200 <= reply.status < 300 else f"{path} answered {reply.status}"


async def _connected(host: str, port: int) -> str:
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        return f"{netloc(host, port)}: {str(error) or type(error).__name__}"
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return ""
