"""One server under a closed loop: as many requests at once as there are connections."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import psutil
import psycopg
from bench.arm import BenchError
from bench.figures import Effort
from bench.outcome import Spread, quantile
from bench.postgres import Pair
from bench.processes import Watch
from bench.wire import Wire, request

from viral_engine.nodes.kernel import die_with_parent

ROWS = 10_000
WRITES_PER_S = 50
READS_WITHIN_S = 20.0
LOOK_EVERY_S = 0.05
LEAST_BUSY = 0.9
"""Share of the time in which the server must have work, or something else set the pace."""
MOST_WAITED = 0.1
"""Share of its time that the server may wait for a CPU that somebody else has."""

APP = Path(__file__).with_name("handler_app.py")

CREATE = b"""
create table items (id integer primary key, title text not null, version integer not null);
insert into items select n, 'item ' || n, 1 from generate_series(1, 10000) n;
create table beats (at timestamptz not null)
"""


@dataclass(frozen=True, slots=True)
class Arm:
    """A server that runs."""

    pid: int
    port: int


@dataclass(frozen=True, slots=True)
class Round:
    """One closed loop: what was answered, how soon, and what that took the server."""

    answers: int
    seconds: float
    p50_ms: float
    p99_ms: float
    server: Effort

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of a CPU that the server used for an answer."""
        return self.server.cpu_s / self.answers * 1e6


def doubts_about(rounds: Mapping[str, Sequence[Round]], *, set_pace: bool = True) -> list[str]:
    """Return why the rounds of these servers were no measurement; empty when they were one."""
    found = []
    for name, arm in rounds.items():
        waits = [one.server.waited_share for one in arm if one.server.waited_share is not None]
        if not waits:
            found.append(f"{name}: the kernel does not tell how long the server waited for a CPU")
            continue
        waited = Spread.of(waits).median
        busy = Spread.of([one.server.share for one in arm]).median + waited
        if waited > MOST_WAITED:
            found.append(f"{name}: the server waited {waited:.0%} of the time for a CPU")
        if set_pace and busy < LEAST_BUSY:
            found.append(f"{name}: the server had work for {busy:.0%} of the time: it set no pace")
    return found


def fill(pair: Pair) -> None:
    """Make the table that is read."""
    with psycopg.connect(pair.primary.url) as connection:
        connection.execute(CREATE)


@contextmanager
def serving(name: str, pair: Pair, *, regions: int = 2) -> Iterator[Arm]:
    """Run a handler until left, on a CPU of its own where there are two; raises BenchError."""
    process = subprocess.Popen(
        [sys.executable, str(APP), name, pair.primary.url, pair.replica.url, str(regions)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509 - nothing here has threads
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise BenchError(f"the handler {name} did not start")
        port = json.loads(line)["port"]
        _wait_until_it_reads(name, port)
        _pin(process.pid)
        yield Arm(process.pid, port)
    finally:
        process.terminate()
        process.wait(20)


def _wait_until_it_reads(name: str, port: int) -> None:
    """Return once the handler has its replica; raise BenchError when that takes too long."""
    deadline = time.monotonic() + READS_WITHIN_S
    while time.monotonic() < deadline:
        if httpx.get(f"http://127.0.0.1:{port}/items/1", timeout=READS_WITHIN_S).is_success:
            return
        time.sleep(LOOK_EVERY_S)
    raise BenchError(f"the handler {name} reads nothing after {READS_WITHIN_S:g} s")


def _pin(pid: int) -> None:
    """Give the server a CPU that we and the databases do not use, where the system can."""
    if sys.platform != "linux" or len(cpus := sorted(os.sched_getaffinity(0))) < 2:
        return
    for thread in psutil.Process(pid).threads():
        os.sched_setaffinity(thread.id, cpus[-1:])


async def closed_loop(arm: Arm, connections: int, seconds: float) -> Round:
    """Ask again as soon as there is an answer, on all connections, for so long."""
    times: list[float] = []
    watch = Watch(arm.pid)
    watch.look()
    began = time.monotonic()
    clients = (_client(n, arm, began + seconds, times) for n in range(connections))
    await asyncio.gather(*clients)
    took = time.monotonic() - began
    watch.look()
    p50, p99 = (1e3 * (quantile(times, share) or 0.0) for share in (0.5, 0.99))
    return Round(len(times), took, p50, p99, watch.effort())


async def _client(number: int, arm: Arm, until: float, times: list[float]) -> None:
    """Ask again as soon as there is an answer, with the session token of the last one."""
    pick = random.Random(number)
    wire = await Wire.open("127.0.0.1", arm.port)
    token = ""
    while (began := time.monotonic()) < until:
        headers = [("viral-session", token)] if token else []
        target = f"/items/{pick.randint(1, ROWS)}"
        answer = await wire.ask(request("GET", target, host="items", headers=headers))
        times.append(time.monotonic() - began)
        if answer.status != 200:
            raise BenchError(f"a read was answered {answer.status}: {answer.body[:200]!r}")
        token = answer.headers.get(b"viral-session", b"").decode() or token
    wire.close()


@asynccontextmanager
async def writing(pair: Pair) -> AsyncIterator[None]:
    """Keep the log moving, so that every answer has a new position to tell."""

    async def beat() -> None:
        url = pair.primary.url
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            while True:
                await connection.execute("insert into beats values (now())")
                await asyncio.sleep(1 / WRITES_PER_S)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
