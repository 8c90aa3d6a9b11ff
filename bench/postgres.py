"""A primary and its streaming replica on loopback, for measurements that need no globe."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from bench.arm import BenchError

from viral_engine.nodes.binaries import Engines

STARTS_WITHIN_S = 30.0
LOOK_EVERY_S = 0.05
STOPS_WITHIN_S = 20.0

# PostgreSQL refuses to be root; the mark to die with us is lost with the rights, so it comes after.
AS_NOBODY = """
import os, sys
from pathlib import Path
from viral_engine.nodes.kernel import die_with_parent
from viral_engine.nodes.privileges import drop_privileges
drop_privileges(Path(sys.argv[1]), needed=[Path(sys.argv[2])])
die_with_parent(os.getppid())
os.execv(sys.argv[2], sys.argv[2:])
"""

SETTINGS = """
listen_addresses = '{address}'
unix_socket_directories = ''
hot_standby = on
wal_receiver_status_interval = 1s
fsync = off
shared_buffers = 32MB
max_connections = 200
"""


@dataclass(frozen=True, slots=True)
class Server:
    """One PostgreSQL, on an address of its own."""

    folder: Path
    address: str

    @property
    def url(self) -> str:
        """Where its only database is."""
        return f"postgresql://postgres@{self.address}:5432/postgres"

    def configure(self) -> None:
        """Append our settings to those it was made with."""
        with (self.folder / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(SETTINGS.format(address=self.address))


@dataclass(frozen=True, slots=True)
class Pair:
    """A primary and the replica that streams from it."""

    primary: Server
    replica: Server


@contextmanager
def streaming_pair(root: Path, environ: Mapping[str, str]) -> Iterator[Pair]:
    """Run a primary and its replica below ``root`` until left; raises BenchError when one fails."""
    bin_folder = Engines(environ).postgres_folder()
    net = f"127.{os.getpid() // 250 % 250 + 2}.{os.getpid() % 250}"
    root.chmod(0o755)
    primary = Server(root / "primary" / "data", f"{net}.1")
    replica = Server(root / "replica" / "data", f"{net}.2")
    trust = ("-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C")
    _run(primary, bin_folder / "initdb", "-D", str(primary.folder), *trust)
    primary.configure()
    with _serving(primary, bin_folder):
        source = f"host={primary.address} user=postgres"
        _run(replica, bin_folder / "pg_basebackup", "-D", str(replica.folder), "-R", "-d", source,
             "--checkpoint=fast", "--wal-method=stream", "--no-sync")  # fmt: skip
        replica.configure()
        with _serving(replica, bin_folder):
            yield Pair(primary, replica)


def _command(server: Server, binary: Path, *arguments: str) -> list[str]:
    server.folder.parent.mkdir(exist_ok=True)
    return [sys.executable, "-c", AS_NOBODY, str(server.folder.parent), str(binary), *arguments]


def _run(server: Server, binary: Path, *arguments: str) -> None:
    done = subprocess.run(
        _command(server, binary, *arguments), check=False, cwd="/", stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    if done.returncode:
        raise BenchError(f"{binary.name}: {done.stderr or done.stdout}")


@contextmanager
def _serving(server: Server, bin_folder: Path) -> Iterator[None]:
    log = server.folder.parent / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            _command(server, bin_folder / "postgres", "-D", str(server.folder)),
            cwd="/", stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        _wait_until_it_answers(server, process, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOPS_WITHIN_S)
        finally:
            process.kill()
            process.wait()


def _wait_until_it_answers(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline:
        try:
            psycopg.connect(server.url, connect_timeout=2).close()
        except psycopg.OperationalError as error:
            if process.poll() is not None:
                raise BenchError(f"postgres ended: {log.read_text()[-2000:]}") from error
            time.sleep(LOOK_EVERY_S)
        else:
            return
    raise BenchError(f"postgres does not answer: {log.read_text()[-2000:]}")
