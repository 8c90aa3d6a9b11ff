"""Sessions that write and at once read what they wrote: run where the users of a region are.

Run by bench/consistency.py as a process of its own; it leaves what it saw as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path

import uvloop

# Run by its path, so that only its own folder is importable.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.wire import Answer, Wire, WireError, request

SESSION = b"viral-session"
LOST = frozenset({"write-lost"})
LOSSES = LOST | {"write-unknown"}
"""Words of ``viral-session-lost`` after which a client's own last write may be missing."""
AGAIN_AFTER_S = 0.2


class ReadOf(StrEnum):
    """What a session found where its own write should be."""

    SEEN = "seen"
    STALE = "stale"
    TOLD_LOST = "told-lost"
    UNAVAILABLE = "unavailable"


@dataclass(slots=True)
class Keeps:
    """What a client carries from answer to request: the session token, or else its cookies."""

    token: bytes = b""
    cookies: dict[bytes, bytes] = field(default_factory=dict)

    def learn(self, answer: Answer) -> None:
        """Take what an answer gives."""
        self.token = answer.headers.get(SESSION, self.token)
        name, _, rest = answer.headers.get(b"set-cookie", b"").partition(b"=")
        if name and not name.startswith(SESSION):  # who sends the header needs neither of them
            self.cookies[name] = rest.partition(b";")[0]

    def headers(self) -> list[tuple[str, str]]:
        """Return what goes with the next request."""
        found = [("viral-session", self.token.decode())] if self.token else []
        if self.cookies:
            pairs = b"; ".join(b"%b=%b" % pair for pair in self.cookies.items())
            found.append(("cookie", pairs.decode()))
        return found


def losses_in(answer: Answer) -> frozenset[str]:
    """Return what an answer says that a failover took from this client."""
    said = answer.headers.get(b"viral-session-lost", b"").decode()
    return frozenset(word.strip() for word in said.split(",") if word.strip())


def read_of(answer: Answer, title: str, told: Collection[str] = ()) -> ReadOf:
    """Return what an answer says of the item that this session was told to be stored.

    Absent or another is stale, unless the client was ``told`` since that its last write is lost, or
    may be; what has no data is no read.
    """
    if answer.status == 200 and json.loads(answer.body)["title"] == title:
        return ReadOf.SEEN
    if answer.status not in {200, 404}:
        return ReadOf.UNAVAILABLE
    return ReadOf.TOLD_LOST if LOSSES.intersection(told) else ReadOf.STALE


def route_of(answer: Answer) -> tuple[str, Mapping[str, str]]:
    """Return the route and its reason in two words, and all that ``viral-route`` tells by name."""
    kind, _, more = answer.headers.get(b"viral-route", b"").decode().partition(";")
    told = dict(part.strip().partition("=")[::2] for part in more.split(";"))
    return f"{kind} {told.get('reason', '')}".strip(), told


@dataclass(slots=True)
class Tally:
    """What the sessions of one arm saw; times in milliseconds.

    ``waited_ms`` is what answers say they waited for the replica.
    """

    reads: Counter[str] = field(default_factory=Counter)
    read_by: Counter[str] = field(default_factory=Counter)
    written_by: Counter[str] = field(default_factory=Counter)
    routes: Counter[str] = field(default_factory=Counter)
    writes_failed: int = 0
    write_ms: list[float] = field(default_factory=list)
    read_ms: dict[str, list[float]] = field(default_factory=dict)
    waited_ms: list[float] = field(default_factory=list)

    def wrote(self, answer: Answer, took_s: float) -> None:
        """Count a write that was acknowledged."""
        self.written_by[json.loads(answer.body)["region"]] += 1
        self.write_ms.append(took_s * 1e3)

    def read(self, answer: Answer, found: ReadOf, took_s: float) -> None:
        """Count a read, its route and who answered it."""
        self.reads[found] += 1
        route, told = route_of(answer)
        self.routes[route] += 1
        if "waited" in told:
            self.waited_ms.append(float(told["waited"]) * 1e3)
        if answer.status == 200:
            self.read_by[json.loads(answer.body)["region"]] += 1
            self.read_ms.setdefault(route.partition(" ")[0], []).append(took_s * 1e3)

    def as_json(self) -> Mapping[str, object]:
        """Return every field by its name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


@dataclass(frozen=True, slots=True)
class Ask:
    """One arm: where, how many pairs in all, and how many a second over all its sessions.

    With ``read_host`` it writes at one edge and at once reads at another, so that the read is on its
    way to the replica beside the log that it needs.
    """

    arm: str
    host: str
    port: int
    pairs: int
    rate: float
    sessions: int
    prefix: str = ""
    read_host: str = ""


async def tally(ask: Ask) -> Tally:
    """Run the sessions of one arm until they have made their pairs."""
    seen = Tally()
    left = [ask.pairs]
    pause = ask.sessions / ask.rate
    runs = (
        _session(ask, number, seen, left, start_in=number * pause / ask.sessions, pause=pause)
        for number in range(ask.sessions)
    )
    await asyncio.gather(*runs)
    return seen


async def _session(
    ask: Ask, number: int, seen: Tally, left: list[int], *, start_in: float, pause: float
) -> None:
    keeps, wire, reads = Keeps(), None, None
    due = time.monotonic() + start_in
    while left[0] > 0:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        due = max(due + pause, time.monotonic())
        if left[0] <= 0:
            break
        left[0] -= 1
        try:
            if wire is None or not wire.is_open:
                wire = await Wire.open(ask.host, ask.port)
            if reads is None or not reads.is_open:
                reads = await Wire.open(ask.read_host, ask.port) if ask.read_host else wire
            title = f"{ask.arm} {number} {left[0]}"
            if await _pair((wire, reads), ask, keeps, seen, title) is ReadOf.TOLD_LOST:
                keeps = Keeps()  # it knows now; what it writes next is a new session's
        except WireError:
            seen.writes_failed += 1
            _close(wire, reads)  # one of them may be well, and would be left open
            wire = reads = None
            await asyncio.sleep(AGAIN_AFTER_S)
    _close(wire, reads)


def _close(*wires: Wire | None) -> None:
    for one in wires:
        if one is not None:
            one.close()


async def _pair(
    wires: tuple[Wire, Wire], ask: Ask, keeps: Keeps, seen: Tally, title: str
) -> ReadOf | None:
    wire, reads = wires
    items = f"{ask.prefix}/items"
    body = json.dumps({"title": title}).encode()
    began = time.monotonic()
    answer = await wire.ask(
        request("POST", items, host="items", headers=keeps.headers(), body=body)
    )
    wrote = time.monotonic()
    keeps.learn(answer)
    if answer.status != 201:
        seen.writes_failed += 1
        return None
    seen.wrote(answer, wrote - began)
    target = f"{items}/{json.loads(answer.body)['id']}"
    asked = time.monotonic()
    answer = await reads.ask(request("GET", target, host="items", headers=keeps.headers()))
    took = time.monotonic() - asked
    keeps.learn(answer)
    found = read_of(answer, title, losses_in(answer))
    seen.read(answer, found, took)
    return found


async def run(asks: Sequence[Ask]) -> Mapping[str, Tally]:
    """Run all arms at once and return what each saw."""
    found = await asyncio.gather(*map(tally, asks))
    return {ask.arm: one for ask, one in zip(asks, found, strict=True)}


def main(arguments: Sequence[str]) -> None:
    """Read the arms from one file and leave what they saw in another."""
    parser = argparse.ArgumentParser(prog="own-writes", description="Write, and read it at once.")
    parser.add_argument("asks", type=Path)
    parser.add_argument("found", type=Path)
    options = parser.parse_args(arguments)
    asks = [Ask(**one) for one in json.loads(options.asks.read_text(encoding="utf-8"))]
    found = {arm: one.as_json() for arm, one in uvloop.run(run(asks)).items()}
    options.found.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
