"""What the sessions of one arm saw in a soak: counted by its client, and read by its report. Pure."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from bench.own_writes import LOSSES, LOST, ReadOf, losses_in, route_of
from bench.wire import Answer


@dataclass(slots=True)
class Seen:
    """What the sessions of one arm saw; only reads that were answered with data are reads.

    ``again`` counts answers after which a read was asked once more, ``refused`` and ``unknown``
    those of writes. ``told`` counts words of ``viral-session-lost``, ``wrongly`` and ``unsurely``
    those that called a write lost, or perhaps lost, that the same answer showed. ``moves`` are the times at which writes came from another
    region than the last one. ``by_second`` is by the second of the monotonic clock.
    """

    reads: Counter[str] = field(default_factory=Counter)
    routes: Counter[str] = field(default_factory=Counter)
    read_in: Counter[str] = field(default_factory=Counter)
    again: Counter[str] = field(default_factory=Counter)
    writes: int = 0
    written_in: Counter[str] = field(default_factory=Counter)
    replayed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    told: Counter[str] = field(default_factory=Counter)
    wrongly: int = 0
    unsurely: int = 0
    moves: list[tuple[float, str]] = field(default_factory=list)
    waited_ms: list[float] = field(default_factory=list)
    read_ms: list[float] = field(default_factory=list)
    write_ms: list[float] = field(default_factory=list)
    by_second: dict[int, Counter[str]] = field(default_factory=dict)
    stale: list[dict[str, object]] = field(default_factory=list)

    def as_json(self) -> Mapping[str, object]:
        """Return every field by its name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def note(self, what: str) -> None:
        """Count it in the second that is now."""
        self.by_second.setdefault(int(time.monotonic()), Counter())[what] += 1

    def read(self, answer: Answer, found: ReadOf, took_s: float) -> None:
        """Count a read that showed data, with its route."""
        route, told = route_of(answer)
        self.reads[found] += 1
        self.routes[route] += 1
        self.read_in[_region(answer)] += 1
        self.read_ms.append(took_s * 1e3)
        if "waited" in told:
            self.waited_ms.append(float(told["waited"]) * 1e3)
        if _is_replayed(answer):
            self.replayed["reads"] += 1
        if found is ReadOf.SEEN:
            lost = losses_in(answer)
            self.wrongly += bool(lost & LOST)
            self.unsurely += bool(lost & LOSSES - LOST)
        self.note(found)
        self.note(route.partition(" ")[0])

    def wrote(self, answer: Answer, took_s: float) -> None:
        """Count a write that was acknowledged."""
        region = _region(answer)
        self.writes += 1
        self.written_in[region] += 1
        self.write_ms.append(took_s * 1e3)
        self.repeated += answer.headers.get(b"idempotency-replayed") == b"true"
        if _is_replayed(answer):
            self.replayed["writes"] += 1
        if not self.moves or self.moves[-1][1] != region:
            self.moves.append((time.monotonic(), region))
        self.note("written")

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """Read what a client left."""
        counters = {name: Counter(value) for name, value in told.items() if isinstance(value, dict)}
        seconds = {int(second): Counter(one) for second, one in told["by_second"].items()}
        return cls(**{**told, **counters, "by_second": seconds})

    def stale_reads(self) -> int:
        """Reads that lacked an acknowledged write of their session, which was not told of a loss."""
        return self.reads.get(ReadOf.STALE, 0)

    def waits(self) -> int:
        """Reads that waited for their replica."""
        return len(self.waited_ms)

    def at_primary(self) -> Counter[str]:
        """Reads that went from their region to the primary over the wire, by reason."""
        routes = self.routes.items()
        return Counter({r.partition(" ")[2]: n for r, n in routes if r.startswith("primary ")})

    def within(self, began: float, ended: float) -> Counter[str]:
        """Return what was counted between two times."""
        found: Counter[str] = Counter()
        for second, counted in self.by_second.items():
            if int(began) <= second <= ended:
                found += counted
        return found

    def longest_without_write(self, began: float, ended: float) -> int:
        """Return the longest run of whole seconds without an acknowledged write."""
        longest = run = 0
        for second in range(int(began), int(ended) + 1):
            run = 0 if self.by_second.get(second, Counter())["written"] else run + 1
            longest = max(longest, run)
        return longest


def _region(answer: Answer) -> str:
    """Return who answered: an app without the runtime says it in its data."""
    said = answer.headers.get(b"viral-region", b"").decode()
    if said or answer.status not in {200, 201}:
        return said
    return str(json.loads(answer.body)["region"])


def _is_replayed(answer: Answer) -> bool:
    """Tell whether another region answered than that of the edge which was asked."""
    edge = answer.headers.get(b"fly-request-id", b"").decode().rpartition("-")[2]
    region = _region(answer)
    return bool(edge and region and edge != region)
