"""Do clients far from the primary see their own writes, where, and how soon: five ways side by side."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil
from bench.arm import VIRAL, Arm, BenchError, running
from bench.figures import LEAST_IDLE, MOST_DELAY_MS, MOST_FAILED, Effort
from bench.own_writes import Ask, Tally
from bench.processes import Watch, hub_of, idle_between

from viral_engine.globe.network.addresses import AddressPlan, NetworkMode
from viral_engine.globe.traffic import HTTP_PORT
from viral_engine.topology.rtt import round_trip_ms

HOME, AWAY = "iad", "lhr"
OPTIONS = ("--app", "side_by_side:app", "--regions", f"{HOME},{AWAY}", "--primary", HOME)
PEERS = Path(__file__).with_name("peers")
CLIENT = Path(__file__).with_name("own_writes.py")

OURS, CONTROL = "through_runtime", "replay_without_tokens"
NEARBY = "through_runtime from iad"
ALONE = "through_runtime alone"
"""Ours once more, faster, when the others are silent: written in one region and at once read in the other,
where the read arrives with what it asks for. Else hardly any would wait, and their times are counted."""
ARMS = (OURS, "single_region", "remote_sql", "time_pin", CONTROL)

LOOK_EVERY = 0.1
STARTS_AND_ENDS_WITHIN = 60.0
WARM_PAIRS = 30


@dataclass(frozen=True, slots=True)
class Plan:
    """Pairs of a write and a read in each arm, and how many a second over all its sessions."""

    pairs: int = 300
    rate: float = 10.0
    sessions: int = 10
    arms: Sequence[str] = ARMS


WAITS = Plan(pairs=12_000, rate=75.0, sessions=30, arms=(OURS,))
SETTLING = replace(WAITS, pairs=4_500)
"""Before them, not counted: in its first two minutes a new server looks through all its catalogs and sends
a few hundred kilobytes of log at once, and TCP has yet to learn how much the way holds."""


@dataclass(frozen=True, slots=True)
class Found:
    """What every arm saw, and what the machine had left over meanwhile."""

    plan: Plan
    round_trip_ms: float
    tallies: Mapping[str, Tally]
    idle: float
    hub: Effort

    def doubts(self) -> tuple[str, ...]:
        """Every reason why times were no measurement; counts hold on a busy machine too."""
        found = []
        if self.idle < LEAST_IDLE:
            found.append(f"this machine had only {self.idle:.0%} of its CPUs left")
        if self.hub.delay_ms is None or self.hub.delay_ms > MOST_DELAY_MS:
            found.append(
                f"the network was starved: each time {self.hub.delay_ms or 0:.1f} ms for a CPU"
            )
        for arm, tally in self.tallies.items():
            asked = tally.writes_failed + len(tally.write_ms)
            if tally.writes_failed > MOST_FAILED * asked:
                found.append(f"{arm}: {tally.writes_failed} of {asked} writes failed")
        return tuple(found)


def measure(
    scratch: Path, environ: Mapping[str, str], say: Callable[[str], None], plan: Plan
) -> Found:
    """Run every arm's sessions in one globe; raises BenchError when it does not come up."""
    say(f"Start {HOME}+{AWAY} with {', '.join(plan.arms)}…")
    with running(OPTIONS, scratch / "peers", environ, keep=False, folder=PEERS) as globe:
        say("Warm all of them up…")
        _run(globe, _asks(globe, replace(Plan(WARM_PAIRS), arms=plan.arms)), scratch)
        say(f"Write and read {plan.pairs} times, {plan.pairs / plan.rate:.0f} s…")
        found = _watched(globe, plan, scratch)
        say(
            f"And {WAITS.pairs} times in {HOME} and {AWAY} in turn, through the runtime alone, "
            f"{(SETTLING.pairs + WAITS.pairs) / WAITS.rate:.0f} s…"
        )
        _run(globe, _racing(globe, SETTLING), scratch)
        raced = _run(globe, _racing(globe, WAITS), scratch)
        return replace(found, tallies={**found.tallies, **raced})


def _watched(globe: Arm, plan: Plan, scratch: Path) -> Found:
    hub = Watch(hub_of(globe.pid))
    hub.look()
    before = psutil.cpu_times()._asdict()
    tallies = _run(globe, _asks(globe, plan), scratch, look=hub.look)
    idle = idle_between(before, psutil.cpu_times()._asdict())
    return Found(plan, round_trip_ms(HOME, AWAY), tallies, idle, hub.effort())


def _asks(globe: Arm, plan: Plan) -> Mapping[str, Sequence[Ask]]:
    """Return who asks what from which region; our own writes are made near the primary as well."""
    regions = tuple(globe.ask("status")["regions"])
    addresses = AddressPlan(NetworkMode.WAN, regions)

    def ask(arm: str, app: str, address: str) -> Ask:
        return Ask(arm, address, HTTP_PORT, plan.pairs, plan.rate, plan.sessions, f"/{app}")

    # One region has no edge elsewhere: its users cross the ocean with the request itself.
    edges = {"single_region": addresses.edge(HOME)}
    away = [ask(arm, arm, edges.get(arm, addresses.anycast)) for arm in plan.arms]
    home = ask(NEARBY, OURS, addresses.anycast)
    return {AWAY: away, HOME: [home]}


def _racing(globe: Arm, plan: Plan) -> Mapping[str, Sequence[Ask]]:
    """Return who writes near the primary and reads near the replica."""
    addresses = AddressPlan(NetworkMode.WAN, tuple(globe.ask("status")["regions"]))
    here, there = addresses.edge(HOME), addresses.edge(AWAY)
    ask = Ask(ALONE, here, HTTP_PORT, plan.pairs, plan.rate, plan.sessions, f"/{OURS}", there)
    return {HOME: [ask]}


def _run(
    globe: Arm,
    asks: Mapping[str, Sequence[Ask]],
    scratch: Path,
    look: Callable[[], None] = lambda: None,
) -> Mapping[str, Tally]:
    """Have the clients of each region do their part, all at once, and return what they saw."""
    longest = max(one.pairs / one.rate for each in asks.values() for one in each)
    deadline = time.monotonic() + 2 * longest + STARTS_AND_ENDS_WITHIN
    found: dict[str, Tally] = {}
    with ExitStack() as stack:
        clients = [
            stack.enter_context(_client(globe, where, asks[where], scratch)) for where in asks
        ]
        while any(client.poll() is None for client in clients):
            if time.monotonic() > deadline:
                raise BenchError("the clients do not end")
            look()
            time.sleep(LOOK_EVERY)
    for where in asks:
        left = scratch / f"found-{where}.json"
        if not left.exists():
            raise BenchError(
                f"the client in {where} failed: {_log(scratch, where).read_text()[-2000:]}"
            )
        told = json.loads(left.read_text(encoding="utf-8"))
        found |= {arm: Tally(**tally) for arm, tally in told.items()}
    return found


@contextmanager
def _client(
    globe: Arm, where: str, asks: Sequence[Ask], scratch: Path
) -> Iterator[subprocess.Popen[bytes]]:
    told, left = scratch / f"asks-{where}.json", scratch / f"found-{where}.json"
    told.write_text(json.dumps([asdict(ask) for ask in asks]), encoding="utf-8")
    left.unlink(missing_ok=True)
    with _log(scratch, where).open("wb") as out:
        process = subprocess.Popen(
            [*VIRAL, "exec", where, "--", sys.executable, str(CLIENT), str(told), str(left)],
            env=dict(globe.environ), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _log(scratch: Path, where: str) -> Path:
    return scratch / f"client-{where}.log"
