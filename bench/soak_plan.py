"""What is broken in a soak, in which order and for how long: drawn from a seed. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

WAIT_BUDGET_S = 2.0
"""How long a read waits for its replica before it goes to the primary."""

BURST_S = 8.0
LONG_EVERY = 5
MIN_CALM_S = 2.0
SETTLES_S = 4.0


class Act(StrEnum):
    """One kind of fault.

    ``bursts``: the standby receives and does not replay, again and again. ``delay``: it replays
    0.2 s late. ``switchover``: the primary is handed over to it, as planned. ``kill``: the primary's
    postmaster is killed. ``cut``: the primary's region is cut off from all others, and healed.
    """

    BURSTS = "bursts"
    DELAY = "delay"
    SWITCHOVER = "switchover"
    KILL = "kill"
    CUT = "cut"

    @property
    def moves_primary(self) -> bool:
        """Whether another region is the primary afterwards."""
        return self in {Act.SWITCHOVER, Act.KILL, Act.CUT}


COSTS_S = {Act.BURSTS: BURST_S, Act.DELAY: 8.0, Act.SWITCHOVER: 6.0, Act.KILL: 12.0, Act.CUT: 40.0}
"""How long each takes, roughly, until all is well again."""


@dataclass(frozen=True, slots=True)
class Step:
    """One fault, done to whoever is the primary or the standby then.

    ``calm_s`` comes before it, ``pauses`` are pairs of seconds: without replay, and with.
    """

    act: Act
    calm_s: float = MIN_CALM_S
    seconds: float = 0.0
    pauses: tuple[tuple[float, float], ...] = ()


def plan(seed: int, seconds: float) -> tuple[Step, ...]:
    """Return the faults of a run that is to last about so many seconds.

    The primary goes away three times, each time in another way and in an order that is drawn, and
    is handed back. Wherever it is, its standby is held back.
    """
    draw = random.Random(seed)
    blocks = [
        [Step(Act.SWITCHOVER), _bursts(draw)],
        [Step(Act.KILL), _delay(draw)],
        [Step(Act.CUT, seconds=round(draw.uniform(14, 18), 3)), _bursts(draw)],
    ]
    draw.shuffle(blocks)
    steps = [_bursts(draw), _delay(draw)]
    for block in blocks:
        steps += [*block, Step(Act.SWITCHOVER), _bursts(draw)]
    return _spread(steps, seconds)


def _spread(steps: Sequence[Step], seconds: float) -> tuple[Step, ...]:
    left = seconds - sum(COSTS_S[step.act] for step in steps)
    calm = max(MIN_CALM_S, left / (len(steps) + 1))
    return tuple(replace(step, calm_s=round(calm, 3)) for step in steps)


def _bursts(draw: random.Random) -> Step:
    pauses: list[tuple[float, float]] = []
    while sum(map(sum, pauses)) < BURST_S:
        is_long = len(pauses) % LONG_EVERY == LONG_EVERY - 1
        low, high = (WAIT_BUDGET_S + 0.5, WAIT_BUDGET_S + 1.5) if is_long else (0.1, 1.5)
        pauses.append((round(draw.uniform(low, high), 3), round(draw.uniform(0.2, 0.8), 3)))
    return Step(Act.BURSTS, pauses=tuple(pauses))


def _delay(draw: random.Random) -> Step:
    return Step(Act.DELAY, seconds=round(draw.uniform(6, 9), 3))
