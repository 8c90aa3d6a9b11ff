"""What is told of a measurement: one table for people, one object for programs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.figures import (
    Effort,
    Measured,
    Quantiles,
    State,
    Verdict,
    judge_at_most,
    judge_reads,
    ratio,
)
from bench.measure import AWAY, HOME, Pair, Report
from bench.outcome import UNKNOWN, Outcome, Promise

LEAST_TIMES = 10.0
MOST_SECONDS = 25.0
MOST_BYTES = 2 * 1024**3
MIB = 1024**2

Row = tuple[str, str, str, str, str]
HEAD: Row = ("", f"A: {HOME}+{AWAY}", f"B: {HOME} only", "B / A", "")


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The promise that fails the bench, and the two aims that do not."""

    reads: Verdict
    ready: Verdict
    memory: Verdict


def verdicts(report: Report) -> Verdicts:
    """Judge what was measured against what was promised."""
    reads = report.pairs["reads"]
    return Verdicts(
        judge_reads(reads.near, reads.far, least=LEAST_TIMES),
        judge_at_most(report.cold.seconds, MOST_SECONDS),
        judge_at_most(report.memory.total, MOST_BYTES),
    )


def lines(report: Report) -> Iterator[str]:
    """Yield the whole report as text, the table in the middle."""
    judged = verdicts(report)
    yield from _surroundings(report)
    yield ""
    yield from _aligned([HEAD, *rows(report, judged)])
    for name, pair in report.pairs.items():
        for arm, one in (("A", pair.near), ("B", pair.far)):
            yield from (f"  {name}, {arm}: {doubt}" for doubt in one.doubts())


def outcome(report: Report) -> Outcome:
    """Return the report as one of the benchmarks that are told together."""
    sentence = f"Reads from {AWAY}, p50 at least {LEAST_TIMES:g} times lower than from {HOME} alone"
    promise = Promise(sentence, verdicts(report).reads)
    return Outcome("regions", list(lines(report)), [promise], as_json(report))


def rows(report: Report, judged: Verdicts) -> Iterator[Row]:
    """Yield the rows of the table; what was not measured is told as unknown."""
    for name, pair in report.pairs.items():
        said = f"{LEAST_TIMES:g}×: {judged.reads.state}" if name == "reads" else ""
        yield from _pair_rows(name, pair, said)
        if name == "reads":
            yield from _bare_row(report, pair)
    yield from _start_rows(report, judged)
    memory = report.memory
    said = f"aim {_mib(MOST_BYTES)}: {_aim(judged.memory)}"
    if memory.by_rss:
        said += f" (shared pages counted in full for {memory.by_rss} of {memory.processes})"
    yield ("memory after the load", _mib(memory.total), "", "", said)
    yield from ((f"  {part}", _mib(size), "", "", "") for part, size in
                memory.by_part.items())  # fmt: skip
    reads = report.pairs["reads"]
    yield from _effort_rows("k6", reads.near.k6, reads.far.k6)
    yield from _effort_rows("the network", reads.near.hub, reads.far.hub)
    yield ("CPUs left over, during reads", f"{reads.near.idle:.0%}", "", "", "of this machine")


def _pair_rows(name: str, pair: Pair, said: str) -> Iterator[Row]:
    near, far = (
        _quantiles(pair.near, pair.load.write_ratio),
        _quantiles(pair.far, pair.load.write_ratio),
    )
    if pair.near.doubts() or pair.far.doubts():
        yield (name, UNKNOWN, UNKNOWN, UNKNOWN, said)
        return
    for label in ("p50_ms", "p95_ms", "p99_ms"):
        a, b = getattr(near, label), getattr(far, label)
        yield (f"{name} {label[:3]}", _ms(a), _ms(b), _times(ratio(b, a)), said)
        said = ""
    yield (f"{name} answered by", _by(pair.near, pair), _by(pair.far, pair), "", "")


def _bare_row(report: Report, pair: Pair) -> Iterator[Row]:
    """The ratio to the distance alone, which no slowness of arm B flatters."""
    if not pair.near.doubts():
        times = ratio(report.round_trip_ms, pair.near.seen.reads.p50_ms)
        yield ("  the bare round trip", "", _ms(report.round_trip_ms), _times(times), "")


def _effort_rows(who: str, near: Effort, far: Effort) -> Iterator[Row]:
    yield (f"CPU of {who}, during reads", f"{near.share:.0%}", f"{far.share:.0%}", "", "of a core")
    yield ("  each wait for it", _ms(near.delay_ms), _ms(far.delay_ms), "", "")


def _start_rows(report: Report, judged: Verdicts) -> Iterator[Row]:
    cold, far, again = report.cold, report.far_cold, report.again
    said = f"aim {MOST_SECONDS:g} s: {_aim(judged.ready)}"
    yield ("ready, from nothing", _s(cold.seconds), _s(far.seconds), "", said)
    for step, seconds in cold.steps.items():
        yield (f"  {step}", _s(seconds), _s(far.steps.get(step)), "", "")
    yield ("ready, on kept data", _s(again.seconds), "", "", "")
    yield from ((f"  {step}", _s(seconds), "", "", "") for step, seconds in again.steps.items())


def _surroundings(report: Report) -> Iterator[str]:
    about, plan = report.machine, report.plan
    memory = about["memory_bytes"] / 1024**3
    yield (f"viral-engine {about['viral-engine']} on {about['cpu']}, {about['cores']} cores, "
           f"{memory:.1f} GiB, {about['system']}, Python {about['python']}")  # fmt: skip
    yield ", ".join(f"{name} {version}" for name, version in about["engines"].items())
    yield (f"network {about['network']} ({about['network_reason']}), round trip {HOME}-{AWAY} "
           f"{report.round_trip_ms:g} ms × {about['rtt_factor']:g}, "
           f"seed {about['network_seed']}")  # fmt: skip
    yield (f"open loop from the users of {AWAY}, both arms at once: {plan.rate} reads/s an arm for "
           f"{plan.seconds} s after {plan.warm_s} s of warming up")  # fmt: skip


def as_json(report: Report) -> dict[str, Any]:
    """Return everything, with the verdicts; figures of what is unknown stand under ``seen``."""
    told = asdict(report)
    for name, pair in report.pairs.items():
        for arm, one in (("near", pair.near), ("far", pair.far)):
            told["pairs"][name][arm]["doubts"] = list(one.doubts())
    reads = report.pairs["reads"]
    judged = verdicts(report)
    known = judged.reads.state is not State.UNKNOWN
    times = ratio(reads.far.seen.reads.p50_ms, reads.near.seen.reads.p50_ms)
    told["memory"]["total"] = report.memory.total
    return {"verdicts": asdict(judged), "p50_ratio": times if known else None, **told}


def _quantiles(one: Measured, write_ratio: float) -> Quantiles:
    return one.seen.writes if write_ratio else one.seen.reads


def _by(one: Measured, pair: Pair) -> str:
    by: Mapping[str, int] = one.seen.written_by if pair.load.write_ratio else one.seen.read_by
    return " ".join(f"{region} {count}" for region, count in by.items())


def _aligned(table: Sequence[Row]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(HEAD))]
    for row in table:
        first, *rest = row
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(rest[:3], widths[1:4], strict=True)]
        yield "  ".join([*cells, rest[3]]).rstrip()


def _aim(verdict: Verdict) -> str:
    return "reached" if verdict.state is State.KEPT else f"missed, {verdict.reasons[0]}"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} ms"


def _s(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}×"


def _mib(size: int) -> str:
    return f"{size / MIB:.0f} MiB"
