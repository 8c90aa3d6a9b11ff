"""The load of a region, from what its machines tell at two looks."""

from __future__ import annotations

import pytest

from viral_engine.operations.scaling.load import Reading, Sample, measured


def test_the_load_is_the_mean_number_at_once_between_two_looks_and_of_all_machines() -> None:
    before = {"a": Reading("lhr", 100.0, 50.0), "b": Reading("lhr", 10.0, 0.0)}
    now = {"a": Reading("lhr", 110.0, 90.0), "b": Reading("lhr", 20.0, 5.0), "c": None}
    assert measured("lhr", ["a", "b"], before, now, at=7.0) == Sample(7.0, 4.5)


@pytest.mark.parametrize("now", [{}, {"b": None}, {"b": Reading("lhr", 3.0, 3.0)}])
def test_a_machine_that_is_silent_or_new_leaves_the_load_incomplete(
    now: dict[str, Reading | None],
) -> None:
    before = {"a": Reading("lhr", 100.0, 50.0)}
    told: dict[str, Reading | None] = {"a": Reading("lhr", 110.0, 60.0), **now}
    assert measured("lhr", ["a", "b"], before, told, at=1.0) == Sample(1.0, 1.0, complete=False)


def test_a_process_that_began_anew_is_counted_from_its_beginning() -> None:
    before = {"a": Reading("lhr", 100.0, 500.0)}
    now = {"a": Reading("lhr", 4.0, 8.0)}
    assert measured("lhr", ["a"], before, now, at=1.0) == Sample(1.0, 2.0)


def test_where_nothing_serves_it_is_what_came_in_by_that_edge_and_was_served_elsewhere() -> None:
    before = {"a": Reading("iad", 10.0, 100.0, {"lhr": 1.0}), "b": Reading("iad", 10.0, 0.0)}
    now = {"a": Reading("iad", 20.0, 200.0, {"lhr": 6.0, "iad": 90.0}),
           "b": Reading("iad", 20.0, 0.0, {"lhr": 2.5})}  # fmt: skip
    assert measured("lhr", [], before, now, at=1.0) == Sample(1.0, 0.75)
    assert measured("lhr", [], before, {**now, "b": None}, at=1.0) == Sample(
        1.0, 0.5, complete=False
    )
    assert measured("lhr", [], {}, {}, at=1.0) == Sample(1.0, 0.0, complete=False)


def test_what_a_machine_tells_is_read_or_refused() -> None:
    facts = {"up_seconds": 2, "busy_seconds": 1.5, "entered_seconds": {"lhr": 1}, "inside": 3}
    assert Reading.from_facts("iad", facts) == Reading("iad", 2.0, 1.5, {"lhr": 1.0})
    for broken in ({}, {**facts, "entered_seconds": None}):
        with pytest.raises((KeyError, TypeError)):
            Reading.from_facts("iad", broken)
