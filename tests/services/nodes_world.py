"""Machines of one deployment as plain processes, each with an address of its own on loopback."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import cast

import psutil
import psycopg

from viral_engine.clock import wait_until
from viral_engine.nodes import ctl

STOP_LIMIT_S = 40.0
STEADY_FOR_S = 3.0
NODES = (sys.executable, "-m", "viral_engine.nodes")
PASSWORDS = {
    "VIRAL_SUPERUSER_PASSWORD": "s'uper:user/%",
    "VIRAL_REPLICATION_PASSWORD": "repl ication",
    "VIRAL_APP_PASSWORD": "it's an app",
    "VIRAL_CACHE_PASSWORD": 'cache"secret',
}


@dataclass
class World:
    """A folder, an address for each region, and the machines that were started in it."""

    folder: Path
    addresses: Mapping[str, str]
    members: tuple[str, ...]
    primary: str = "iad"
    prefix: tuple[str, ...] = ()
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def environ(self, region: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "FLY_APP_NAME": "demo",
            "FLY_REGION": region,
            "FLY_MACHINE_ID": f"machine-{region}",
            "FLY_PRIVATE_IP": self.addresses[region],
            "PRIMARY_REGION": self.primary,
            "VIRAL_DATA": str(self.folder / region),
            "VIRAL_CLUSTER": "demo",
            "VIRAL_ETCD_MEMBERS": ",".join(f"{one}={self.addresses[one]}" for one in self.members),
            **PASSWORDS,
        }

    def start(self, region: str, kind: str, **more: str) -> subprocess.Popen[bytes]:
        with self.log(region).open("ab") as log:
            process = subprocess.Popen(
                [*self.prefix, *NODES, kind],
                env={**self.environ(region), **more},
                cwd="/",
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.running[region] = process
        return process

    def log(self, region: str) -> Path:
        return self.folder / f"{region}.log"

    def said(self, region: str) -> str:
        return self.log(region).read_text(errors="replace")

    def stop(self, *regions: str) -> dict[str, int]:
        """Stop machines as the platform does, and return their exit codes."""
        processes = {region: self.running.pop(region) for region in regions}
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        return {region: process.wait(STOP_LIMIT_S) for region, process in processes.items()}

    def ask(self, region: str, sql: str, *, user: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement at a region's own database; [] where it returns no rows."""
        variable = "VIRAL_SUPERUSER_PASSWORD" if user == "postgres" else "VIRAL_APP_PASSWORD"
        with psycopg.connect(
            host=self.addresses[region], user=user, password=PASSWORDS[variable],
            dbname="viral", connect_timeout=2, autocommit=True,
        ) as connection:  # fmt: skip
            cursor = connection.execute(sql.encode())
            return [] if cursor.description is None else cursor.fetchall()

    async def until(
        self, region: str, sql: str, *, user: str = "postgres", within: float = 60
    ) -> None:
        """Wait until a statement at a region's database answers with at least one row."""

        def answered() -> bool:
            for name, process in self.running.items():
                assert process.poll() is None, f"{name} ended:\n{self.said(name)[-3000:]}"
            with suppress(psycopg.Error):
                return bool(self.ask(region, sql, user=user))
            return False

        with self.telling_logs():
            await wait_until(
                answered, timeout=timedelta(seconds=within), waiting_for=f"{region} to answer {sql}"
            )

    async def until_synchronous(self, primary: str) -> None:
        """Wait until the other region's database may take over: Patroni says so after PostgreSQL.

        For three seconds without a break, since Patroni takes it back for a moment when a standby
        that has just been rewound connects anew.
        """
        since: float | None = None

        async def seen() -> bool:
            nonlocal since
            said = await ctl.status(self.environ(primary))
            members = cast("list[dict[str, object]]", said["members"] or [])
            if said["primary"] != primary or not any(one["synchronous"] for one in members):
                since = None
                return False
            since = since or time.monotonic()
            return time.monotonic() - since > STEADY_FOR_S

        with self.telling_logs():
            await wait_until(
                seen,
                timeout=timedelta(seconds=60),
                waiting_for=f"a synchronous standby of {primary}",
            )

    @contextmanager
    def telling_logs(self) -> Iterator[None]:
        """Print the end of every machine's log where the block fails: pytest shows it then."""
        try:
            yield
        except BaseException:
            for region in self.addresses:
                if self.log(region).exists():
                    sys.stdout.write(f"--- {region}\n{self.said(region)[-6000:]}\n")
            raise


@contextmanager
def frozen(processes: list[psutil.Process]) -> Iterator[None]:
    """Stop processes where they are until the block ends, as a machine that sleeps does."""
    try:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


@contextmanager
def world(
    *regions: str, members: tuple[str, ...] | None = None, prefix: tuple[str, ...] = ()
) -> Iterator[World]:
    """Make addresses and a folder that every account may enter; kill what is left at the end."""
    network = f"127.{secrets.randbelow(200) + 40}.{secrets.randbelow(250) + 1}"
    addresses = {region: f"{network}.{number}" for number, region in enumerate(regions, start=10)}
    with tempfile.TemporaryDirectory(prefix="viral-nodes-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        here = World(folder, addresses, regions if members is None else members, prefix=prefix)
        try:
            yield here
        finally:
            for process in here.running.values():
                process.kill()
                process.wait(STOP_LIMIT_S)
            for stray in processes_in(folder):
                with suppress(psutil.NoSuchProcess):
                    stray.kill()


def command_of(process: psutil.Process) -> str:
    """Return the command of a process in one line; nothing of one that has just ended."""
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def is_over(process: psutil.Process) -> bool:
    """Return whether a process has ended, collected by its parent or not."""
    with suppress(psutil.NoSuchProcess):
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True


def processes_in(folder: Path) -> list[psutil.Process]:
    """Return the living processes of a folder's machines, by their command, place or environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            # PostgreSQL's processes write over their command and environment, but stay in a folder.
            marks = (*process.cmdline(), process.cwd(), process.environ().get("VIRAL_DATA", ""))
            if any(str(folder) in mark for mark in marks):
                found.append(process)
    return found
