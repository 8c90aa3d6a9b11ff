"""What the runtime costs a read-only handler: it beside the same handler on bare psycopg."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop
from bench.loop import Arm, Round, closed_loop, doubts_about, fill, serving, writing
from bench.outcome import UNKNOWN, Outcome, Promise, Spread, aligned, judged
from bench.postgres import Pair, streaming_pair

CONNECTIONS = 16
LEAST_TIMES = 0.9

ARMS = ("bare", "runtime")


@dataclass(frozen=True, slots=True)
class Plan:
    """Rounds for each arm, how long each takes, and the one before them that does not count."""

    rounds: int = 8
    seconds: float = 1.5
    warm_s: float = 2.0


def measure(
    scratch: Path, environ: Mapping[str, str], say: Callable[[str], None], plan: Plan
) -> Outcome:
    """Measure both handlers in alternating rounds; raises BenchError when one does not run."""
    say("Start a primary, its replica and both handlers…")
    with ExitStack() as stack:
        pair = stack.enter_context(streaming_pair(scratch, environ))
        fill(pair)
        arms = {name: stack.enter_context(serving(name, pair)) for name in ARMS}
        say(f"Measure them in {plan.rounds} alternating rounds of {plan.seconds:g} s…")
        return outcome(uvloop.run(_rounds(plan, pair, arms)))


def outcome(rounds: Mapping[str, Sequence[Round]]) -> Outcome:
    """Judge the rounds: each of the runtime's against the one of bare psycopg beside it."""
    bare, runtime = (rounds[name] for name in ARMS)
    times = Spread.of([a.rate / b.rate for a, b in zip(runtime, bare, strict=True)])
    doubts = doubts_about(rounds)
    table: list[Sequence[str]] = [("", "bare psycopg", "the runtime", "ratio")]
    rates = [Spread.of([one.rate for one in arm]) for arm in (bare, runtime)]
    costs = [Spread.of([one.cpu_us for one in arm]) for arm in (bare, runtime)]
    told = UNKNOWN if doubts else times.told(".2f")
    table.append(("reads a second", *(one.told(".0f") for one in rates), told))
    extra = costs[1].median - costs[0].median
    table.append(("CPU a read", *(one.told(".0f") + " us" for one in costs), f"{extra:+.0f} us"))
    for label, at in (("p50", "p50_ms"), ("p99", "p99_ms")):
        both = [Spread.of([getattr(one, at) for one in arm]) for arm in (bare, runtime)]
        table.append((label, *(one.told(".1f") + " ms" for one in both), ""))
    sentence = f"A read-only handler through the runtime: at least {LEAST_TIMES:g} × the throughput"
    verdict = judged(times.median >= LEAST_TIMES, doubts, f"{times.median:.2f} ×")
    figures = {name: [asdict(one) for one in arm] for name, arm in rounds.items()}
    known = None if doubts else asdict(times)
    return Outcome(
        "handler", list(aligned(table)), [Promise(sentence, verdict)], {"ratio": known, **figures}
    )


async def _rounds(plan: Plan, pair: Pair, arms: Mapping[str, Arm]) -> Mapping[str, Sequence[Round]]:
    found: dict[str, list[Round]] = {name: [] for name in arms}
    async with writing(pair):
        for arm in arms.values():
            await closed_loop(arm, CONNECTIONS, plan.warm_s)
        for number in range(plan.rounds):
            # Each goes first as often as the other: what a machine does over time hits both.
            for name in list(arms)[:: 1 if number % 2 else -1]:
                found[name].append(await closed_loop(arms[name], CONNECTIONS, plan.seconds))
    return found
