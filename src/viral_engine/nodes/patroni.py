from __future__ import annotations

import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Mapping
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

from viral_engine.nodes.machine import (
    DATABASE_PORT,
    ETCD_CLIENT_PORT,
    PATRONI_PORT,
    DatabaseSettings,
    EtcdCluster,
    Machine,
    netloc,
)
from viral_engine.nodes.profile import DYNAMIC_CONFIGURATION
from viral_engine.nodes.supervisor import Program

__all__ = [
    "API_USER",
    "SUPERUSER",
    "config_key",
    "config_path",
    "last_primary",
    "leader_key",
    "patroni_program",
    "rendered",
    "sync_key",
    "write_private",
]

SUPERUSER = "postgres"
REPLICATION_USER = "viral_replication"
API_USER = "viral"

# The fast shutdown of a database with a full cache; Patroni itself kills after its own limits.
STOP_LIMIT = timedelta(seconds=30)


def config_key(cluster: str) -> str:
    """Return the key in etcd under which Patroni keeps what all nodes are told."""
    return f"/service/{cluster}/config"


def leader_key(cluster: str) -> str:
    """Return the key in etcd that the primary holds."""
    return f"/service/{cluster}/leader"


def sync_key(cluster: str) -> str:
    """Return the key in etcd that names the last primary and its synchronous standby."""
    return f"/service/{cluster}/sync"


def last_primary(noted: str | None) -> str | None:
    """Read the name of the last primary from Patroni's note on synchronous standbys."""
    if noted is None:
        return None
    note = json.loads(noted)
    return note.get("leader") if isinstance(note, dict) else None


def patroni_program(
    machine: Machine,
    settings: DatabaseSettings,
    *,
    environ: Mapping[str, str],
) -> Program:
    """Return Patroni as a program to supervise; its file must have been written before."""
    return Program(
        name="patroni",
        command=(
            sys.executable,
            "-m",
            "viral_engine.nodes.patroni_start",
            str(config_path(machine)),
        ),
        environ={
            # Of the outside, nothing that would be taken for settings of Patroni or of libpq.
            **{
                key: value
                for key, value in environ.items()
                if not key.startswith(("PATRONI_", "PG"))
            },
            "TMPDIR": str(machine.data / "tmp"),
            **_bytecode(machine, environ),
            "VIRAL_APP_PASSWORD": settings.app_password,
            "VIRAL_DATABASE": settings.database,
        },
        stop_limit=STOP_LIMIT,
        hopeless={
            "belongs to a different cluster": "The volume holds the data of another cluster: "
            "this machine must not join. Attach its own volume, or empty this one to copy anew."
        },
    )


def _bytecode(machine: Machine, environ: Mapping[str, str]) -> dict[str, str]:
    if "PYTHONPYCACHEPREFIX" in environ:
        return {}
    # Patroni loads itself anew for each start of PostgreSQL. Where nobody compiled its sources and
    # this account may not, each of those would compile them again: a second of every recovery.
    spec = importlib.util.find_spec("patroni")
    sources = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    compiled = any((place / "__pycache__").exists() for place in sources)
    may_compile = all(os.access(place, os.W_OK) for place in sources)
    if compiled or (may_compile and not environ.get("PYTHONDONTWRITEBYTECODE")):
        return {}
    return {
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(machine.data / "tmp" / "bytecode"),
    }


def config_path(machine: Machine) -> Path:
    """Return where Patroni's file lies."""
    return machine.data / "run" / "patroni.yml"


def rendered(
    machine: Machine,
    settings: DatabaseSettings,
    etcd: EtcdCluster,
    *,
    postgres_folder: Path,
    guarded: bool,
) -> str:
    """Return Patroni's file (JSON, which is YAML); ``guarded``: no promotion without primacy.

    Only in the primary region does it say how to create a cluster: elsewhere a node with an empty
    folder waits for a leader to copy from, whoever starts first.
    """
    here = machine.private_ip
    config: dict[str, object] = {
        "scope": machine.cluster,
        "name": machine.region,
        "log": {"level": "INFO", "deduplicate_heartbeat_logs": True},
        "restapi": {
            "listen": netloc(here, PATRONI_PORT),
            "connect_address": netloc(here, PATRONI_PORT),
            "authentication": {"username": API_USER, "password": settings.superuser_password},
        },
        "etcd3": {
            "hosts": [
                netloc(member.address, ETCD_CLIENT_PORT)
                for member in etcd.nearest_first(machine.region)
            ],
            # The members are fixed: take them in this order. Left to itself Patroni asks for the
            # list and shuffles it, and every round could cost trips to another region.
            "use_proxies": True,
        },
        "postgresql": {
            **_postgresql(machine, settings, postgres_folder),
            **({"pre_promote": _hook(machine)} if guarded else {}),
        },
        "tags": {"region": machine.region, "machine": machine.machine_id},
        "watchdog": {"mode": "off"},
    }
    if machine.is_in_primary_region:
        config["bootstrap"] = _bootstrap(postgres_folder)
    return json.dumps(config, indent=2, ensure_ascii=False)


def _postgresql(machine: Machine, settings: DatabaseSettings, folder: Path) -> dict[str, object]:
    superuser = {"username": SUPERUSER, "password": settings.superuser_password}
    replication = {"username": REPLICATION_USER, "password": settings.replication_password}
    return {
        "listen": netloc(machine.private_ip, DATABASE_PORT),
        "connect_address": netloc(machine.private_ip, DATABASE_PORT),
        "data_dir": str(machine.data / "postgres"),
        "bin_dir": str(folder),
        "parameters": dict(settings.parameters),
        "pgpass": str(machine.data / "run" / "pgpass"),
        "authentication": {"superuser": superuser, "replication": replication},
        # The address that is listened on is the private network's: all who get there need a password.
        "pg_hba": [
            f"host replication {REPLICATION_USER} all scram-sha-256",
            "host all all all scram-sha-256",
        ],
        # Without the first, the copy would wait for the primary's next checkpoint, minutes away.
        "basebackup": [{"checkpoint": "fast"}, {"sync-method": "syncfs"}],
    }


def _hook(machine: Machine) -> str:
    script = str(files(__package__).joinpath("promotion.py"))
    return shlex.join([sys.executable, "-I", "-S", script, str(machine.data / "run")])


def _bootstrap(folder: Path) -> dict[str, object]:
    script = str(files(__package__).joinpath("bootstrap.sql"))
    return {
        "dcs": DYNAMIC_CONFIGURATION,
        "initdb": [
            "data-checksums",
            "no-instructions",
            {"encoding": "UTF8"},
            # Sorted the same on every machine, whatever its C library.
            {"locale-provider": "builtin"},
            {"builtin-locale": "C.UTF-8"},
            {"locale": "C"},
            {"auth": "scram-sha-256"},
            # One call per file system in place of one per file, and as safe.
            {"sync-method": "syncfs"},
        ],
        "post_init": shlex.join([str(folder / "psql"), "-X", "-q", "-f", script, "-d"]),
    }


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
