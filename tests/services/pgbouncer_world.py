"""A real PgBouncer in transaction mode before the pair's primary, for tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.rows import dict_row
from tests.services.postgres_pair import UNPRIVILEGED, PostgresPair
from tests.services.strong_world import World, all_answer

from viral_engine.clock import NotYet, wait_until
from viral_engine.cluster import ClusterWatcher, DatabaseAddresses
from viral_engine.data import Databases, Router

SOON = timedelta(seconds=10)
SERVER_CONNECTIONS = 5
SETTINGS = """
[databases]
* = host={host} port={port}

[pgbouncer]
listen_addr = {address}
listen_port = {listen}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
admin_users = postgres
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 200
server_login_retry = 1
query_wait_timeout = {wait}
logfile = {folder}/log
"""


@dataclass(frozen=True)
class Pooler:
    """Where a PgBouncer listens, and its process."""

    address: str
    port: int
    process: subprocess.Popen[bytes]

    def url(self, database: str) -> str:
        return f"postgresql://postgres@{self.address}:{self.port}/{database}"

    async def servers(self, database: str) -> list[dict[str, object]]:
        """What it says of its sessions at the database."""
        async with await psycopg.AsyncConnection.connect(
            self.url("pgbouncer"),
            autocommit=True,
            row_factory=dict_row,
            cursor_factory=psycopg.AsyncClientCursor,
        ) as connection:
            rows = await (await connection.execute("show servers")).fetchall()
            return [row for row in rows if row["database"] == database]


@asynccontextmanager
async def pgbouncer(pair: PostgresPair, *, wait_s: int = 120) -> AsyncIterator[Pooler]:
    """Run one for the block; skip the test where PgBouncer is not installed."""
    command = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if command is None:
        pytest.skip("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    folder = Path(tempfile.mkdtemp(prefix="viral-pgbouncer-"))
    # An address of its own in the pair's network, so that its port is free.
    address = f"{pair.primary.address.rpartition('.')[0]}.3"
    settings = SETTINGS.format(
        host=pair.primary.address,
        port=pair.primary.port,
        address=address,
        listen=6432,
        folder=folder,
        size=SERVER_CONNECTIONS,
        wait=wait_s,
    )
    (folder / "users").write_text('"postgres" ""\n"poor" ""\n')
    (folder / "settings.ini").write_text(settings)
    who = UNPRIVILEGED if os.geteuid() == 0 else None
    if who is not None:
        for path in (folder, *folder.iterdir()):
            os.chown(path, who, who)
    process = subprocess.Popen(
        [command, "-q", str(folder / "settings.ini")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        user=who,
        group=who,
        extra_groups=None if who is None else [],
    )
    try:
        pooler = Pooler(address, 6432, process)

        async def answers() -> bool | NotYet:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                await pooler.servers("none")
            except psycopg.OperationalError as error:
                return NotYet(str(error))
            return True

        await wait_until(answers, timeout=SOON, waiting_for="PgBouncer to answer")
        yield pooler
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(timeout=10)
        shutil.rmtree(folder)


@asynccontextmanager
async def behind(
    pooler: Pooler, pair: PostgresPair, database: str, *, here: str = "iad", pool_size: int = 10
) -> AsyncIterator[World]:
    """Run the runtime of a machine in ``here`` whose way to the primary is the pooler."""
    addresses = DatabaseAddresses.from_environ(
        {
            "DATABASE_URL": pair.primary.url(database),
            "PGBOUNCER_URL": pooler.url(database),
            "READ_REPLICA_LHR_URL": pair.replica.url(database),
        },
        region="iad",
    )
    assert urlsplit(addresses.way_to_primary or "").hostname == pooler.address
    async with ClusterWatcher(addresses.nodes, machine="m1") as cluster:
        await cluster.wait_for(all_answer, timeout=SOON)
        databases = Databases(
            addresses, here=here, machine="m1", view=lambda: cluster.view, pool_size=pool_size
        )
        async with databases:
            yield World(databases, cluster, Router(cluster, here=here))
