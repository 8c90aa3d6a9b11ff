from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from bench.figures import Effort, State
from bench.growth import REGIONS, SESSIONS, Cell
from bench.growth import outcome as growth_outcome
from bench.handler import outcome
from bench.loop import Round
from bench.outcome import Spread, quantile

BUSY = Effort(elapsed_s=1.0, cpu_s=0.97, delay_ms=0.1, waited_s=0.01)


def rounds(*rates: int, server: Effort = BUSY) -> Sequence[Round]:
    return [Round(rate, 1.0, 5.0, 9.0, server) for rate in rates]


def test_the_ratio_is_the_median_over_rounds_that_were_beside_each_other() -> None:
    # The machine was half as fast in the second round: both handlers were.
    told = outcome({"bare": rounds(1000, 500, 1000), "runtime": rounds(920, 470, 910)})
    assert told.promises[0].verdict.state is State.KEPT
    assert told.figures["ratio"]["median"] == pytest.approx(0.92)


def test_less_than_promised_is_broken() -> None:
    told = outcome({"bare": rounds(1000), "runtime": rounds(890)})
    assert told.promises[0].verdict.state is State.BROKEN


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (replace(BUSY, waited_s=0.2), "runtime: the server waited 20% of the time for a CPU"),
        (
            replace(BUSY, cpu_s=0.5),
            "runtime: the server had work for 51% of the time: it set no pace",
        ),
        (
            replace(BUSY, waited_s=None),
            "runtime: the kernel does not tell how long the server waited for a CPU",
        ),
    ],
)
def test_a_server_that_did_not_set_the_pace_measures_nothing(server: Effort, reason: str) -> None:
    told = outcome({"bare": rounds(1000), "runtime": rounds(990, server=server)})
    verdict = told.promises[0].verdict
    assert (verdict.state, verdict.reasons) == (State.UNKNOWN, (reason,))
    assert told.figures["ratio"] is None
    assert "0.99" not in "\n".join(told.table)


def cells(dearest: int) -> dict[Cell, Sequence[Round]]:
    found = {Cell(regions, n): rounds(920) for regions in REGIONS for n in SESSIONS}
    found |= {Cell(None, n): rounds(1000) for n in SESSIONS}
    return found | {Cell(5, 100): rounds(dearest)}


def test_routing_that_costs_the_same_everywhere_is_flat_and_one_dear_cell_is_not() -> None:
    flat, dear = growth_outcome(cells(dearest=900)), growth_outcome(cells(dearest=700))
    assert flat.promises[0].verdict.state is State.KEPT
    assert dear.promises[0].verdict.state is State.BROKEN


def test_a_spread_and_a_quantile_are_figures_that_were_measured() -> None:
    assert Spread.of([3, 1, 2]) == Spread(2, 1, 3)
    assert quantile([4, 1, 3, 2], 0.5) == 3
    assert quantile([1.0], 0.99) == 1.0
    assert quantile([], 0.5) is None
