"""Durations and data of the wire."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viral_engine.fly.durations import format_duration, parse_duration
from viral_engine.fly.model import CheckStatus, Machine, MachineConfig, MachineState

YEAR = timedelta(days=365)


@given(st.timedeltas(min_value=timedelta(0), max_value=YEAR))
def test_a_duration_comes_back_as_it_was_written(value: timedelta) -> None:
    assert parse_duration(format_duration(value)) == pytest.approx(
        value, abs=timedelta(microseconds=1)
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15s", 15), ("1m30s", 90), ("500ms", 0.5), ("1.5h", 5400), ("1h1m1s", 3661),
        ("250us", 0.00025), ("250µs", 0.00025), ("1000000000ns", 1), ("0s", 0),
        (15_000_000_000, 15), (0, 0), (1.5e9, 1.5),
    ],
)  # fmt: skip
def test_a_duration_is_text_with_units_or_nanoseconds(text: object, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "odd",
    ["", "15", "s", "1s ", " 1s", "1 s", "-1s", "1d", "1s1", "٣s", "1e3s", "." , "9" * 400 + "s",
     "99999999999h", -1, 10**40, float("nan"), float("inf"), True, None, [], {}, b"1s"],
)  # fmt: skip
def test_anything_else_is_refused_with_what_is_allowed(odd: object) -> None:
    with pytest.raises(ValueError, match="write it as 15s, 1m30s or 500ms"):
        parse_duration(odd)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(seconds=90), "90s"),
        (timedelta(seconds=1.5), "1500ms"),
        (timedelta(microseconds=1), "1us"),
    ],
)
def test_the_largest_unit_that_keeps_a_duration_whole_is_used(value: timedelta, text: str) -> None:
    assert format_duration(value) == text


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.booleans()))
def test_no_input_makes_reading_a_duration_fail_in_another_way(value: object) -> None:
    try:
        assert timedelta(0) <= parse_duration(value) <= YEAR
    except ValueError as refused:
        assert "is not a duration" in str(refused)  # noqa: PT017 - only this refusal is allowed


def test_fields_that_are_not_known_here_survive_a_round_trip() -> None:
    wire = {"image": "x", "dns": {"skip": True}, "guest": {"gpus": 1},
            "checks": {"c": {"type": "tcp", "tls": True, "interval": "90s"}}}  # fmt: skip
    back = MachineConfig.model_validate(wire).to_wire()
    assert (back["dns"], back["guest"]["gpus"]) == ({"skip": True}, 1)
    assert (back["checks"]["c"]["tls"], back["checks"]["c"]["interval"]) == (True, "90s")
    assert MachineConfig.model_validate(back) == MachineConfig.model_validate(wire)


def machine(state: str, own: dict[str, str], services: dict[str, str]) -> Machine:
    config = {"image": "x", "checks": {name: {"type": "tcp"} for name in own}}
    checks = [CheckStatus(name=n, status=s, updated_at="now") for n, s in (own | services).items()]
    return Machine(id="m", name="n", state=MachineState(state), region="iad", instance_id="1",
                   private_ip="a", created_at="t", updated_at="t", checks=tuple(checks),
                   config=MachineConfig.model_validate(config))  # fmt: skip


@pytest.mark.parametrize(
    ("state", "own", "services", "healthy"),
    [
        ("started", {}, {}, True),
        ("stopped", {}, {}, False),
        ("started", {}, {"servicecheck-00": "passing"}, True),
        ("started", {}, {"servicecheck-00": "critical"}, False),
        ("started", {"postgres": "passing"}, {"servicecheck-00": "critical"}, True),
        ("started", {"postgres": "warning"}, {"servicecheck-00": "passing"}, False),
        ("stopping", {"postgres": "passing"}, {}, False),
    ],
)
def test_a_machine_is_healthy_by_its_own_checks_before_its_services(
    state: str, own: dict[str, str], services: dict[str, str], healthy: bool
) -> None:
    assert machine(state, own, services).healthy is healthy


def test_a_machine_without_a_process_group_is_an_app() -> None:
    assert machine("started", {}, {}).role == "app"
