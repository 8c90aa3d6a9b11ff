"""What routing costs a request as there are more sessions at once and more regions to choose from."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop
from bench.loop import Arm, Round, closed_loop, doubts_about, fill, serving, writing
from bench.outcome import UNKNOWN, Outcome, Promise, aligned, judged
from bench.postgres import Pair, streaming_pair

SESSIONS = (1, 10, 100)
REGIONS = (2, 3, 5)
MOST_GROWTH = 0.1
"""What the cost may grow by, as a share of a read on bare psycopg."""

BARE = "bare"


@dataclass(frozen=True, slots=True)
class Plan:
    """Rounds in each cell, and how long each takes."""

    rounds: int = 3
    seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Cell:
    """One server (bare, or of so many regions) under so many sessions."""

    regions: int | None
    sessions: int

    @property
    def name(self) -> str:
        """Its name in the figures."""
        where = BARE if self.regions is None else f"{self.regions} regions"
        return f"{where}, {self.sessions} sessions"


Cells = Mapping[Cell, Sequence[Round]]


def measure(
    scratch: Path, environ: Mapping[str, str], say: Callable[[str], None], plan: Plan
) -> Outcome:
    """Measure every cell of the table; raises BenchError when a server does not run."""
    say("Start a primary, its replica, and a handler for each number of regions…")
    with ExitStack() as stack:
        pair = stack.enter_context(streaming_pair(scratch, environ))
        fill(pair)
        arms: dict[int | None, Arm] = {None: stack.enter_context(serving(BARE, pair))}
        for regions in REGIONS:
            arms[regions] = stack.enter_context(serving("runtime", pair, regions=regions))
        cells = [Cell(regions, sessions) for sessions in SESSIONS for regions in arms]
        say(f"Measure {len(cells)} cells in {plan.rounds} rounds of {plan.seconds:g} s…")
        return outcome(uvloop.run(_rounds(plan, pair, arms, cells)))


async def _rounds(
    plan: Plan, pair: Pair, arms: Mapping[int | None, Arm], cells: Sequence[Cell]
) -> Cells:
    found: dict[Cell, list[Round]] = {cell: [] for cell in cells}
    async with writing(pair):
        for arm in arms.values():
            await closed_loop(arm, max(SESSIONS), plan.seconds)
        for number in range(plan.rounds):
            for cell in cells[:: 1 if number % 2 else -1]:
                arm = arms[cell.regions]
                found[cell].append(await closed_loop(arm, cell.sessions, plan.seconds))
    return found


def outcome(cells: Cells) -> Outcome:
    """Judge how much the cost grows from the smallest cell to the dearest."""
    named = {cell.name: rounds for cell, rounds in cells.items()}
    every = [one for rounds in cells.values() for one in rounds]
    doubts = doubts_about({"all": every}, set_pace=False)
    shares = {cell: share_of(cells, cell) for cell in cells if cell.regions is not None}
    least = shares[Cell(min(REGIONS), min(SESSIONS))]
    growth = max(shares.values()) - least
    sentence = (
        f"Routing cost from {min(SESSIONS)} session and {min(REGIONS)} regions to {max(SESSIONS)} and "
        f"{max(REGIONS)}: grows by at most {MOST_GROWTH:.0%} of a bare read"
    )
    verdict = judged(growth <= MOST_GROWTH, doubts, f"it grows by {growth:.0%}")
    table: list[Sequence[str]] = [
        ("CPU a read, against bare psycopg", *(f"{n} session{'s' * (n > 1)}" for n in SESSIONS))
    ]
    for regions in REGIONS:
        row = [_told(cells, shares, Cell(regions, n), doubts) for n in SESSIONS]
        table.append((f"  {regions} regions", *row))
    table.append(("  bare", *(f"{cost(cells[Cell(None, n)]):.0f} us" for n in SESSIONS)))
    figures = {name: [asdict(one) for one in rounds] for name, rounds in named.items()}
    known = None if doubts else growth
    return Outcome(
        "growth", list(aligned(table)), [Promise(sentence, verdict)], {"growth": known, **figures}
    )


def cost(rounds: Sequence[Round]) -> float:
    """Return the microseconds of a CPU that a read took the server: the median of its rounds."""
    return statistics.median(one.cpu_us for one in rounds)


def share_of(cells: Cells, cell: Cell) -> float:
    """Return how much more CPU a read takes than on bare psycopg, under as many sessions."""
    bare = cells[Cell(None, cell.sessions)]
    times = (a.cpu_us / b.cpu_us for a, b in zip(cells[cell], bare, strict=True))
    return statistics.median(times) - 1


def _told(cells: Cells, shares: Mapping[Cell, float], cell: Cell, doubts: Sequence[str]) -> str:
    if doubts:
        return UNKNOWN
    extra = cost(cells[cell]) - cost(cells[Cell(None, cell.sessions)])
    return f"{1 + shares[cell]:.2f}× ({extra:+.0f} us)"
