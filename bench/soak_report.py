"""What is told of a soak: a column for each arm, a row for each fault, and one promise. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from bench.consistency import CONTROL, OURS
from bench.figures import State, Verdict
from bench.outcome import Outcome, Promise, aligned, quantile
from bench.own_writes import ReadOf
from bench.soak_faults import Fault
from bench.soak_plan import Step
from bench.soak_seen import Seen

LEAST_FAILOVERS = 3
LEAST_WAITS = 100
"""Fewer reads that waited would not have been held back by what is broken."""


@dataclass(frozen=True, slots=True)
class Soak:
    """A whole run: what was asked, what was broken, what was seen, and what the machine had left."""

    reads: int
    rate: float
    seed: int
    reads_a_write: int
    arms: Mapping[str, Seen]
    steps: Sequence[Step]
    faults: Sequence[Fault]
    began: float
    took_s: float
    idle: float

    def ours(self) -> Sequence[Seen]:
        """Return the arms through the runtime."""
        return [seen for name, seen in self.arms.items() if name.startswith(OURS)]

    def control(self) -> Sequence[Seen]:
        """Return the arms of the app that replays without tokens."""
        return [seen for name, seen in self.arms.items() if name.startswith(CONTROL)]

    def failovers(self) -> int:
        """Return how often the primary was seen to have moved."""
        return sum(fault.moved for fault in self.faults)

    def doubts(self) -> tuple[str, ...]:
        """Every reason why no stale read would show nothing."""
        found = []
        if not sum(seen.stale_reads() for seen in self.control()):
            found.append(f"{CONTROL} had no stale read either")
        read = sum(seen.reads.total() for seen in self.ours())
        if read < self.reads:
            found.append(f"{read} of {self.reads} reads were made")
        if self.failovers() < LEAST_FAILOVERS:
            found.append(f"{self.failovers()} failovers were seen, {LEAST_FAILOVERS} are needed")
        waits = sum(seen.waits() for seen in self.ours())
        if waits < LEAST_WAITS:
            found.append(f"{waits} reads waited, {LEAST_WAITS} are needed")
        not_seen = [one for one in self.faults if not one.seen]
        found += [f"{one.act} in {one.region} was not seen: {one.told}" for one in not_seen]
        if len(self.faults) < len(self.steps):
            found.append(f"{len(self.faults)} of {len(self.steps)} faults were made")
        return tuple(found)


def outcome(found: Soak) -> Outcome:
    """Judge what was seen; counts hold on a busy machine too."""
    told = {"faults": [asdict(fault) for fault in found.faults], "plan": _plan(found)}
    arms = {name: _figures(seen) for name, seen in found.arms.items()}
    promise = Promise(_sentence(found), judge(found))
    return Outcome("soak", list(_lines(found)), [promise], {**told, "arms": arms})


def judge(found: Soak) -> Verdict:
    """Broken by one stale read of ours; kept only where the faults were there and control was caught."""
    stale = sum(seen.stale_reads() for seen in found.ours())
    if stale:
        return Verdict(State.BROKEN, (f"{stale} were stale",))
    doubts = found.doubts()
    return Verdict(State.UNKNOWN, doubts) if doubts else Verdict(State.KEPT)


def _sentence(found: Soak) -> str:
    ours = found.ours()
    read = sum(seen.reads.total() for seen in ours)
    waited = sum(seen.waits() for seen in ours)
    primary = sum(seen.at_primary().total() for seen in ours)
    replayed = sum(seen.replayed["writes"] for seen in ours)
    return (
        f"Stale own-write reads: 0 of {read}, of which {waited} waited and {primary} asked the "
        f"primary elsewhere; {replayed} of {sum(seen.writes for seen in ours)} writes replayed; "
        f"{found.failovers()} failovers"
    )


def _plan(found: Soak) -> Mapping[str, object]:
    names = ("reads", "rate", "seed", "reads_a_write", "took_s", "idle", "began")
    return {name: getattr(found, name) for name in names}


def _figures(seen: Seen) -> Mapping[str, object]:
    told = {one.name: getattr(seen, one.name) for one in fields(seen)}
    for name in ("waited_ms", "read_ms", "write_ms"):
        shares = (0.5, 0.95, 0.99, 1.0)
        told[name] = {f"p{100 * share:g}": quantile(told[name], share) for share in shares}
    del told["by_second"]
    return told


def _lines(found: Soak) -> Iterator[str]:
    yield (
        f"seed {found.seed}, {found.rate:g} reads a second asked for, {found.reads_a_write} of each "
        f"session's latest write; {found.took_s:.0f} s; CPUs left over {found.idle:.0%}"
    )
    labels = ("", *(label for label, _ in _rows(Seen())))
    columns = [(name, *(cell for _, cell in _rows(seen))) for name, seen in found.arms.items()]
    yield from aligned([tuple(row) for row in zip(labels, *columns, strict=True)])
    for name, seen in found.arms.items():
        for what in ("routes", "told", "again", "refused", "unknown"):
            said = ", ".join(f"{n} {key or 'none'}" for key, n in getattr(seen, what).most_common())
            if said:
                yield f"{name}, {what}: {said}"
    yield ""
    yield from aligned([_HEAD, *(_row(fault, found) for fault in found.faults)])
    yield from (f"  {fault.act} {fault.region}: {fault.told}" for fault in found.faults)


def _rows(seen: Seen) -> Iterator[tuple[str, str]]:
    primary = seen.at_primary()
    yield "own writes read", str(seen.reads.total())
    yield "  stale", str(seen.stale_reads())
    yield "  told that it is lost", str(seen.reads.get(ReadOf.TOLD_LOST, 0))
    yield "  waited for the replica", str(seen.waits())
    yield "  waited, p50", _ms(quantile(seen.waited_ms, 0.5))
    yield "  waited, p99", _ms(quantile(seen.waited_ms, 0.99))
    yield "  asked the primary elsewhere", str(primary.total())
    yield "    since the replica was behind", str(primary.get("replica-behind", 0))
    yield "  answered in another region", str(seen.replayed.get("reads", 0))
    yield "  asked again after no data", str(seen.again.total())
    yield "writes acknowledged", str(seen.writes)
    yield "  replayed in another region", str(seen.replayed.get("writes", 0))
    yield "  refused, and made again", str(seen.refused.total())
    yield "  unknown, and made again", str(seen.unknown.total())
    yield "  first answer given again", str(seen.repeated)
    yield "  said lost, and shown", str(seen.wrongly)
    yield "  said perhaps lost, and shown", str(seen.unsurely)
    yield "moves of the primary seen", str(max(0, len(seen.moves) - 1))


_HEAD = ("fault", "at", "took", "seen", "moved", "reads", "waited", "primary", "told", "asked again",
         "stale", "stale in control", "no write for")  # fmt: skip


def _row(fault: Fault, found: Soak) -> Sequence[str]:
    ours: Counter[str] = Counter()
    for seen in found.ours():
        ours += seen.within(fault.began, fault.ended)
    control = sum(one.within(fault.began, fault.ended)[ReadOf.STALE] for one in found.control())
    gap = max(seen.longest_without_write(fault.began, fault.ended) for seen in found.ours())
    read = ours[ReadOf.SEEN] + ours[ReadOf.STALE] + ours[ReadOf.TOLD_LOST]
    return (
        f"{fault.act} {fault.region}", f"{fault.began - found.began:.0f} s",
        f"{fault.ended - fault.began:.0f} s", "yes" if fault.seen else "NO",
        "yes" if fault.moved else "", str(read), str(ours["wait"]), str(ours["primary"]),
        str(ours["write-lost"] + ours["write-unknown"] + ours["read-lost"]), str(ours["again"]),
        str(ours[ReadOf.STALE]), str(control), f"{gap} s" if gap else "",
    )  # fmt: skip


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} ms"
