from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from viral_engine.nodes.binaries import Engines
from viral_engine.nodes.machine import CACHE_PORT, CacheSettings, Machine
from viral_engine.nodes.patroni import write_private
from viral_engine.nodes.supervisor import Program, Supervisor

__all__ = ["rendered", "run"]

STOP_LIMIT = timedelta(seconds=5)


def rendered(machine: Machine, settings: CacheSettings) -> str:
    """Return Valkey's file: nothing is written to disk, and the least used is forgotten first."""
    options = {
        "bind": machine.private_ip,
        "port": str(CACHE_PORT),
        "protected-mode": "yes",
        "requirepass": _quoted(settings.password),
        "maxmemory": settings.max_memory,
        "maxmemory-policy": "allkeys-lru",
        "save": '""',
        "appendonly": "no",
        "dir": _quoted(str(machine.data)),
        "tcp-keepalive": "5",
        "daemonize": "no",
    }
    return "".join(f"{key} {value}\n" for key, value in options.items())


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


async def run(environ: Mapping[str, str]) -> int:
    """Run the cache of a region until SIGTERM or SIGINT; return 0 after a clean stop.

    What it holds is lost with the process: everything in it can be made anew. Raises MisuseError
    for a faulty environment, BinaryMissingError, and MachineFailedError once Valkey cannot be kept
    running.
    """
    machine = Machine.from_environ(environ)
    settings = CacheSettings.from_environ(environ)
    # The password by file: a command line can be read by every process of the machine.
    config = machine.data / "valkey.conf"
    write_private(config, rendered(machine, settings))
    async with Supervisor() as supervisor:
        supervisor.start(_program(Engines(environ).valkey_server(), config, environ))
        return await supervisor.until_stopped()


def _program(binary: Path, config: Path, environ: Mapping[str, str]) -> Program:
    return Program(
        name="valkey", command=(str(binary), str(config)), environ=environ, stop_limit=STOP_LIMIT
    )
