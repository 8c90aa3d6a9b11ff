from __future__ import annotations

from datetime import timedelta

import pytest

from viral_engine.guards import Circuit, CircuitOpenError
from viral_engine.observe import CircuitClosed, CircuitOpened, Event


class GoneError(Exception):
    pass


class Rig:
    """A circuit whose time stands still, and what it told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.told: list[Event] = []
        monkeypatch.setattr("circuitbreaker.monotonic", lambda: self.now)
        self.circuit = Circuit(
            "write lhr", failure=GoneError, failures=3, rest=timedelta(seconds=0.5),
            listener=self.told.append,
        )  # fmt: skip

    def fails(self, times: int = 1, error: type[Exception] = GoneError) -> None:
        for _ in range(times):
            with pytest.raises(error), self.circuit.closed():
                raise error

    def answers(self) -> None:
        with self.circuit.closed():
            pass

    def is_resting(self) -> bool:
        try:
            self.answers()
        except CircuitOpenError:
            return True
        return False


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


def test_what_failed_three_times_in_a_row_is_left_alone_for_half_a_second(rig: Rig) -> None:
    rig.fails(3)
    assert rig.told == [CircuitOpened("write lhr")]
    rig.now += 0.49
    assert rig.is_resting()
    rig.now += 0.02
    rig.answers()
    assert rig.told[1:] == [CircuitClosed("write lhr")]


def test_one_failure_after_the_rest_is_enough_for_another(rig: Rig) -> None:
    rig.fails(3)
    rig.now += 0.6
    rig.fails()
    assert rig.is_resting()
    assert len(rig.told) == 1


def test_failures_with_an_answer_between_them_do_not_add_up(rig: Rig) -> None:
    rig.fails(2)
    rig.answers()
    rig.fails(2)
    assert not rig.is_resting()


def test_an_error_of_another_kind_is_an_answer(rig: Rig) -> None:
    rig.fails(2)
    rig.fails(error=ValueError)
    rig.fails(2)
    assert not rig.is_resting()
    assert rig.told == []
