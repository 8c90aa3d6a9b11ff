"""Sessions that write until that is acknowledged, and read their own latest write through faults.

Run by bench/soak.py as a process of its own where the users of a region are; it goes on until its
arms have read as often as asked and its standard input has ended, and leaves what it saw as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

# Run by its path, so that only its own folder is importable.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.own_writes import Keeps, ReadOf, losses_in, read_of, route_of
from bench.soak_seen import Seen
from bench.wire import Answer, Wire, WireError, request

ANSWERED_WITHIN_S = 25.0
AGAIN_AFTER_S = 0.25
UNKNOWN = frozenset({502, 504})
REMEMBERED = 50
"""So many stale reads are told in full."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One arm: who asks what, how many reads in all (0: as long as the others), and how often."""

    arm: str
    where: str
    host: str
    port: int
    prefix: str
    reads: int
    rate: float
    sessions: int
    reads_a_write: int
    seed: int


@dataclass(frozen=True, slots=True)
class Written:
    """A write that was acknowledged, and with which token."""

    item: int
    title: str
    at: float
    token: bytes


class Sessions:
    """The sessions of one arm."""

    def __init__(self, ask: Ask, is_over: Callable[[], bool]) -> None:
        self.ask = ask
        self.seen = Seen()
        self._is_over = is_over
        self._pause = ask.sessions * ask.reads_a_write / ask.rate

    @property
    def is_done(self) -> bool:
        """Whether all reads that were asked for are made; never, where none were."""
        return bool(self.ask.reads) and self.seen.reads.total() >= self.ask.reads

    async def run(self) -> None:
        """Go on until all is over."""
        await asyncio.gather(*map(self._session, range(self.ask.sessions)))

    async def _session(self, number: int) -> None:
        name = f"{self.ask.arm} {self.ask.where} {self.ask.seed}"
        draw = random.Random(f"{name} {number}")
        client = Client(self.ask, self.seen, self._is_over)
        due = time.monotonic() + draw.uniform(0, self._pause)
        writes = 0
        while not self._is_over():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + self._pause, time.monotonic())
            writes += 1
            written = await client.write(f"{name} {number} {writes}")
            if written is not None:
                await self._reads(client, written, draw)
        client.close()

    async def _reads(self, client: Client, written: Written, draw: random.Random) -> None:
        later = sorted(
            draw.uniform(0, 0.8 * self._pause) for _ in range(self.ask.reads_a_write - 1)
        )
        told: set[str] = set()
        for after in (0.0, *later):
            await asyncio.sleep(max(0.0, written.at + after - time.monotonic()))
            if await client.read(written, told) in {ReadOf.TOLD_LOST, None}:
                return


class Client:
    """One user agent: its token, its connection, and what it does when an answer is no answer."""

    def __init__(self, ask: Ask, seen: Seen, is_over: Callable[[], bool]) -> None:
        self._ask = ask
        self._seen = seen
        self._is_over = is_over
        self._keeps = Keeps()
        self._wire: Wire | None = None

    async def write(self, title: str) -> Written | None:
        """Write until it is acknowledged, each time with the same key; None when all is over."""
        body = json.dumps({"title": title}).encode()
        while not self._is_over():
            began = time.monotonic()
            key = ("idempotency-key", title.replace(" ", "-"))
            answer = await self._answer("POST", "/items", body=body, headers=[key])
            if answer is not None and answer.status == 201:
                self._seen.wrote(answer, time.monotonic() - began)
                item = int(json.loads(answer.body)["id"])
                return Written(item, title, time.monotonic(), self._keeps.token)
            is_unknown = answer is None or answer.status in UNKNOWN
            kind = "no answer" if answer is None else _called(answer)
            (self._seen.unknown if is_unknown else self._seen.refused)[kind] += 1
            self._seen.note("unknown" if is_unknown else "refused")
            await asyncio.sleep(AGAIN_AFTER_S)
        return None

    async def read(self, written: Written, told: set[str]) -> ReadOf | None:
        """Read it until data are answered, and return what they are; None when all is over."""
        while not self._is_over():
            sent, began = self._keeps.token, time.monotonic()
            answer = await self._answer("GET", f"/items/{written.item}")
            if answer is not None:
                told |= losses_in(answer)
                found = read_of(answer, written.title, told)
                if found is not ReadOf.UNAVAILABLE:
                    self._seen.read(answer, found, time.monotonic() - began)
                    if found is ReadOf.STALE:
                        self._note_stale(answer, began, written, sent)
                    return found
            self._seen.again["no answer" if answer is None else _called(answer)] += 1
            self._seen.note("again")
            await asyncio.sleep(AGAIN_AFTER_S)
        return None

    def _note_stale(self, answer: Answer, began: float, written: Written, sent: bytes) -> None:
        if len(self._seen.stale) < REMEMBERED:
            headers = {name.decode(): value.decode() for name, value in answer.headers.items()}
            self._seen.stale.append(
                {"at": began, "wall": time.time(), "title": written.title, "item": written.item,
                 "written": written.at, "written_token": written.token.decode(),
                 "sent_token": sent.decode(), "status": answer.status,
                 "headers": headers, "body": answer.body.decode(errors="replace")}
            )  # fmt: skip

    async def _answer(
        self, method: str, target: str, *, body: bytes = b"",
        headers: Sequence[tuple[str, str]] = (),
    ) -> Answer | None:  # fmt: skip
        """Return an answer and learn its token; None where the connection broke or time ran out."""
        sent = [*self._keeps.headers(), *headers]
        told = request(method, self._ask.prefix + target, host="items", headers=sent, body=body)
        try:
            if self._wire is None or not self._wire.is_open:
                self._wire = await Wire.open(self._ask.host, self._ask.port)
            answer = await self._wire.ask(told, within_s=ANSWERED_WITHIN_S)
        except WireError:
            self.close()
            return None
        self._keeps.learn(answer)
        for loss in losses_in(answer):
            self._seen.told[loss] += 1
            self._seen.note(loss)
        return answer

    def close(self) -> None:
        """Leave the connection."""
        if self._wire is not None:
            self._wire.close()
        self._wire = None


def _called(answer: Answer) -> str:
    """Name an answer that has no data by its status and its route."""
    return f"{answer.status} {route_of(answer)[0]}".strip()


async def run(asks: Sequence[Ask], limit_s: float) -> Mapping[str, Seen]:
    """Run all arms until those with a number of reads have them and standard input has ended."""
    told_to_end = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hear() -> None:
        if not os.read(0, 1):
            loop.remove_reader(0)
            told_to_end.set()

    loop.add_reader(0, hear)
    latest = time.monotonic() + limit_s
    arms: list[Sessions] = []

    def is_over() -> bool:
        done = told_to_end.is_set() and all(one.is_done or not one.ask.reads for one in arms)
        return done or time.monotonic() > latest

    arms += [Sessions(ask, is_over) for ask in asks]
    await asyncio.gather(*(one.run() for one in arms))
    return {one.ask.arm: one.seen for one in arms}


def main(arguments: Sequence[str]) -> None:
    """Read the arms from one file and leave what they saw in another."""
    parser = argparse.ArgumentParser(prog="soak-client", description="Write, and read it.")
    parser.add_argument("asks", type=Path)
    parser.add_argument("found", type=Path)
    parser.add_argument("limit_s", type=float)
    options = parser.parse_args(arguments)
    asks = [Ask(**one) for one in json.loads(options.asks.read_text(encoding="utf-8"))]
    found = uvloop.run(run(asks, options.limit_s))
    told = {arm: seen.as_json() for arm, seen in found.items()}
    options.found.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
