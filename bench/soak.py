"""``make soak``: read one's own writes a hundred thousand times while replicas lag and primaries fail.

Beside the runtime's clients, the same globe serves those of an app that replays without tokens: the
control arm, which has to be caught.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import psutil

# Run by its path, so that only its own folder is importable.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.arm import VIRAL, Arm, BenchError, running
from bench.consistency import AWAY, CONTROL, HOME, OPTIONS, OURS, PEERS
from bench.processes import idle_between
from bench.soak_client import Ask
from bench.soak_faults import Fault, Scene, break_all
from bench.soak_plan import plan
from bench.soak_report import Soak, outcome
from bench.soak_seen import Seen

from viral_engine.errors import ViralError
from viral_engine.fly.client import FlyClient
from viral_engine.globe.network.addresses import AddressPlan, NetworkMode
from viral_engine.globe.traffic import HTTP_PORT
from viral_engine.operations.drills.stories import Stage

CLIENT = Path(__file__).with_name("soak_client.py")

READS_A_WRITE = 4
SHARE_AWAY = 0.8
CONTROL_SHARE = 0.06
SESSIONS_PER_RATE = 0.4
"""Sessions for each read a second: each writes every 1.6 s."""
WARM_READS = 400
LOOK_EVERY = 0.1
STARTS_AND_ENDS_WITHIN = 60.0
FAULTS_WITHIN = 1500.0

Say = Callable[[str], None]
Breaks = Callable[[], Awaitable[None]]


def asks_of(reads: int, rate: float, seed: int, regions: Sequence[str]) -> dict[str, list[Ask]]:
    """Return who asks what from which region: most of it far from where the primary usually is."""
    anycast = AddressPlan(NetworkMode.WAN, tuple(regions)).anycast

    def ask(arm: str, where: str, many: float, share: float) -> Ask:
        own = rate * share
        return Ask(
            arm, where, anycast, HTTP_PORT, f"/{arm}", round(reads * many), own,
            max(1, round(own * SESSIONS_PER_RATE)), READS_A_WRITE, seed,
        )  # fmt: skip

    away = [ask(OURS, AWAY, SHARE_AWAY, SHARE_AWAY), ask(CONTROL, AWAY, 0, CONTROL_SHARE)]
    return {AWAY: away, HOME: [ask(OURS, HOME, 1 - SHARE_AWAY, 1 - SHARE_AWAY)]}


async def soak(
    globe: Arm, home: Path, scratch: Path, options: argparse.Namespace, say: Say
) -> Soak:
    """Run the load and the faults beside it in a globe that is up; raises BenchError."""
    regions = globe.ask("status")["regions"]
    say("Warm it up…")
    await _clients(globe, asks_of(WARM_READS, 100, -1, regions), scratch, _no_faults)
    asks = asks_of(options.reads, options.rate, options.seed, regions)
    steps = plan(options.seed, options.reads / options.rate)
    facts = json.loads((home / "run.json").read_text(encoding="utf-8"))
    addresses = facts["addresses"]
    faults: list[Fault] = []
    before, began = psutil.cpu_times()._asdict(), time.monotonic()
    async with FlyClient(addresses["api"], facts["token"]) as client:
        scene = Scene(Stage(client, addresses["edges"], lambda sentence: say(f"  … {sentence}")))

        async def breaks() -> None:
            with suppress(TimeoutError):  # what is missing then is told as missing
                async with asyncio.timeout(FAULTS_WITHIN), scene.watched(globe):
                    await break_all(scene, steps, faults, say)
            await asyncio.sleep(steps[-1].calm_s)

        say(f"Read {options.reads} times, {options.rate:g} a second, through {len(steps)} faults…")
        seen = await _clients(globe, asks, scratch, breaks)
    return Soak(
        reads=options.reads, rate=options.rate, seed=options.seed, reads_a_write=READS_A_WRITE,
        arms=seen, steps=steps, faults=tuple(faults), began=began, took_s=time.monotonic() - began,
        idle=idle_between(before, psutil.cpu_times()._asdict()),
    )  # fmt: skip


async def _no_faults() -> None:
    pass


async def _clients(
    globe: Arm, asks: Mapping[str, Sequence[Ask]], scratch: Path, breaks: Breaks
) -> Mapping[str, Seen]:
    """Have the clients of every region go on until they have read enough and nothing breaks."""
    longest = max(one.reads / one.rate for each in asks.values() for one in each)
    limit = 3 * longest + FAULTS_WITHIN
    with ExitStack() as stack:
        clients = [
            stack.enter_context(_client(globe, where, asks[where], scratch, limit))
            for where in asks
        ]
        await breaks()
        for client in clients:
            assert client.stdin
            client.stdin.close()
        deadline = time.monotonic() + limit + STARTS_AND_ENDS_WITHIN
        while any(client.poll() is None for client in clients):
            if time.monotonic() > deadline:
                raise BenchError("the clients do not end")
            await asyncio.sleep(LOOK_EVERY)
    return {
        f"{arm} in {where}": Seen.of(told)
        for where in asks
        for arm, told in _left_by(scratch, where).items()
    }


@contextmanager
def _client(
    globe: Arm, where: str, asks: Sequence[Ask], scratch: Path, limit: float
) -> Iterator[subprocess.Popen[bytes]]:
    told, left = scratch / f"asks-{where}.json", scratch / f"found-{where}.json"
    told.write_text(json.dumps([asdict(ask) for ask in asks]), encoding="utf-8")
    left.unlink(missing_ok=True)
    with (scratch / f"client-{where}.log").open("wb") as out:
        process = subprocess.Popen(
            [*VIRAL, "exec", where, "--", sys.executable, str(CLIENT), str(told), str(left),
             str(limit)],
            env=dict(globe.environ), stdin=subprocess.PIPE, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _left_by(scratch: Path, where: str) -> Mapping[str, Mapping[str, object]]:
    left = scratch / f"found-{where}.json"
    if not left.exists():
        log = (scratch / f"client-{where}.log").read_text(encoding="utf-8", errors="replace")
        raise BenchError(f"the client in {where} failed: {log[-2000:]}")
    found: Mapping[str, Mapping[str, object]] = json.loads(left.read_text(encoding="utf-8"))
    return found


def parser() -> argparse.ArgumentParser:
    """Return what the command line may say."""
    found = argparse.ArgumentParser(prog="soak", description="Read one's own writes, and break it.")
    found.add_argument("--reads", type=int, default=100_000, help="so many own-write reads, in all")
    found.add_argument("--rate", type=float, default=250.0, help="so many a second (250)")
    found.add_argument("--seed", type=int, default=0, help="of the faults and the sessions (0)")
    found.add_argument("--json", type=Path, metavar="FILE", help="leave every figure here")
    found.add_argument("--keep", type=Path, metavar="DIR", help="leave raw figures and logs here")
    return found


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Soak and tell; return 0 when what was promised was kept, else 1, and 2 for misuse."""
    reads = parser()
    options = reads.parse_args(arguments)
    if options.reads < 1 or options.rate < 1:
        reads.error("--reads and --rate must be at least 1")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        with tempfile.TemporaryDirectory(prefix="viral-soak-") as scratch:
            found = outcome(_measured(options, Path(scratch), environ))
    except (BenchError, ViralError, LookupError, TimeoutError) as error:
        _say(f"soak: nothing was measured: {error}")
        return 1
    print(*found.lines(), sep="\n", flush=True)
    if options.json:
        told = json.dumps({found.name: found.as_json()}, indent=2)
        options.json.write_text(told + "\n", encoding="utf-8")
    return 0 if found.kept else 1


def _measured(options: argparse.Namespace, scratch: Path, environ: Mapping[str, str]) -> Soak:
    home = scratch / "globe"
    _say(f"Start {HOME}+{AWAY} with {OURS}, {CONTROL}…")
    with running(OPTIONS, home, environ, keep=False, folder=PEERS) as globe:
        try:
            return asyncio.run(soak(globe, home, scratch, options, _say))
        finally:
            if options.keep:
                _keep(globe, scratch, options.keep)


def _keep(globe: Arm, scratch: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for left in scratch.glob("*-*.*"):
        (folder / left.name).write_bytes(left.read_bytes())
    with (folder / "logs.jsonl").open("wb") as out:
        subprocess.run([*VIRAL, "logs", "--json"], env=dict(globe.environ), stdout=out, check=False)


def _say(sentence: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {sentence}", file=sys.stderr, flush=True)


def _end(number: int, _: FrameType | None) -> None:
    """Leave by way of everything that has to be stopped."""
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
