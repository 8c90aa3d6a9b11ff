"""What is told of own-write reads: a column for each way, and what was promised of ours. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from bench.consistency import ALONE, AWAY, CONTROL, HOME, NEARBY, OURS, Found
from bench.figures import State, Verdict
from bench.outcome import UNKNOWN, Outcome, Promise, aligned, judged, quantile
from bench.own_writes import ReadOf, Tally

LEAST_LOCAL = 0.99
MOST_TIMES = 1.15
MOST_WAIT_MS = 5.0
LEAST_WAITS = 100
"""Fewer reads that waited have no 99th percentile."""


def outcome(found: Found) -> Outcome:
    """Judge what was found; counts hold on a busy machine, times do not."""
    arms = [arm for arm in found.plan.arms if arm in found.tallies]
    columns = [_column(arm, found) for arm in arms]
    labels = ("", "own writes read", "  stale", "  told that it is lost", "  no answer",
              f"  answered in {AWAY}", "  waited for the replica", "  asked the primary", "read p50",
              "read p99", "write p50", "  / (round trip + here)")  # fmt: skip
    table = list(aligned([tuple(row) for row in zip(labels, *columns, strict=True)]))
    table.append(f"write in {HOME} itself, p50: {_ms(_p50(found.tallies[NEARBY].write_ms))}; round "
                 f"trip {found.round_trip_ms:g} ms; CPUs left over {found.idle:.0%}")  # fmt: skip
    table += _raced(found.tallies.get(ALONE, Tally()))
    figures = {arm: _figures(tally) for arm, tally in found.tallies.items()}
    return Outcome("own-writes", table, promises(found), {"plan": asdict(found.plan), **figures})


def promises(found: Found) -> list[Promise]:
    """Return what was promised of reads of one's own writes, with the verdicts."""
    ours, doubts = found.tallies[OURS], found.doubts()
    alone = found.tallies.get(ALONE, Tally())
    read = sum(ours.reads.values())
    local = ours.read_by.get(AWAY, 0) / read if read else None
    times = write_times(ours, found)
    wait, count = quantile(alone.waited_ms, 0.99), len(alone.waited_ms)
    waits = (f"{count} reads waited, {LEAST_WAITS} are needed",) if count < LEAST_WAITS else ()
    return [
        Promise(f"Stale own-write reads: 0 of {read}", stale(found)),
        Promise(f"Own writes read in {AWAY}: at least {LEAST_LOCAL:.0%}",
                judged(None if local is None else local >= LEAST_LOCAL, (), f"{local or 0:.1%}")),
        Promise(f"A write from {AWAY}: at most {MOST_TIMES:g} × (round trip + the same in {HOME})",
                judged(None if times is None else times <= MOST_TIMES, doubts, f"{times or 0:.2f} ×")),
        Promise(f"Wait for the replica, p99 of {count} that waited: at most {MOST_WAIT_MS:g} ms",
                judged(None if wait is None else wait <= MOST_WAIT_MS, (*waits, *doubts),
                       f"{wait or 0:.1f} ms"), is_aim=True),
    ]  # fmt: skip


def _raced(tally: Tally) -> Sequence[str]:
    """Return a line on the reads that were made while their write was on its way to the replica."""
    read, waited = tally.reads.get(ReadOf.SEEN, 0), tally.waited_ms
    if not read or len(waited) > read:
        return ()
    all_of_them = [0.0] * (read - len(waited)) + waited
    p50, p99 = _ms(_p50(waited)) or "-", _ms(quantile(all_of_them, 0.99))
    return (
        f"reads that raced their write: {read}; {len(waited)} waited, p50 {p50}; p99 of all {p99}",
    )


def stale(found: Found) -> Verdict:
    """Broken by one stale read of ours; known to be kept only where the control arm was caught."""
    ours = found.tallies[OURS]
    both = (ours, found.tallies.get(ALONE, Tally()))
    count = sum(tally.reads.get(ReadOf.STALE, 0) for tally in both)
    if count:
        return Verdict(State.BROKEN, (f"{count} were stale",))
    control = found.tallies.get(CONTROL)
    if control is None or not control.reads.get(ReadOf.STALE, 0):
        return Verdict(State.UNKNOWN, (f"{CONTROL} had no stale read either: nothing was shown",))
    if not ours.reads.get(ReadOf.SEEN, 0):
        return Verdict(State.UNKNOWN, ("nothing was read",))
    return Verdict(State.KEPT)


def write_times(tally: Tally, found: Found) -> float | None:
    """Return the median write over one round trip and the median of the same write at home."""
    there, here = _p50(tally.write_ms), _p50(found.tallies[NEARBY].write_ms)
    return None if there is None or here is None else there / (found.round_trip_ms + here)


def _column(arm: str, found: Found) -> Sequence[str]:
    tally, doubts = found.tallies[arm], found.doubts()
    read = sum(tally.reads.values())
    times = [ms for each in tally.read_ms.values() for ms in each]
    waited = sum(n for route, n in tally.routes.items() if route.startswith("wait"))
    primary = sum(n for route, n in tally.routes.items() if route.startswith("primary"))
    ratio = write_times(tally, found)
    counts = [tally.reads.get(kind, 0) for kind in (ReadOf.STALE, ReadOf.TOLD_LOST)]
    said = bool(set(tally.routes) - {""})
    timed = [
        _ms(quantile(times, 0.5)), _ms(quantile(times, 0.99)), _ms(_p50(tally.write_ms)),
        "" if ratio is None else f"{ratio:.2f}×",
    ]  # fmt: skip
    return [
        arm, str(read), *map(str, counts), str(tally.reads.get(ReadOf.UNAVAILABLE, 0)),
        f"{tally.read_by.get(AWAY, 0) / read:.1%}" if read else "",
        str(waited) if said else "", str(primary) if said else "",
        *([UNKNOWN] * len(timed) if doubts else timed),
    ]  # fmt: skip


def _figures(tally: Tally) -> dict[str, object]:
    every = {"write_ms": tally.write_ms, "waited_ms": tally.waited_ms}
    every |= {f"read_ms {kind}".strip(): times for kind, times in tally.read_ms.items()}
    quantiles = {
        name: {f"p{100 * share:g}": quantile(times, share) for share in (0.5, 0.95, 0.99, 1.0)}
        for name, times in every.items()
    }
    left = ("reads", "read_by", "written_by", "routes", "writes_failed")
    return {**{name: getattr(tally, name) for name in left}, **quantiles}


def _p50(values: Sequence[float]) -> float | None:
    return quantile(values, 0.5)


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} ms"
