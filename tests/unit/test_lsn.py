"""Log positions: their spelling, their order, their distance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viral_engine.lsn import Lsn

positions = st.integers(min_value=0, max_value=2**64 - 1).map(Lsn)


@given(positions)
def test_what_is_written_reads_back_as_the_same_position(lsn: Lsn) -> None:
    assert Lsn.parse(str(lsn)) == lsn


@given(positions, positions)
def test_order_and_distance_agree(a: Lsn, b: Lsn) -> None:
    assert (a < b) == (a - b < 0)
    assert (a - b) == -(b - a)


@given(positions)
def test_case_and_leading_zeros_do_not_matter(lsn: Lsn) -> None:
    high, low = str(lsn).split("/")
    assert Lsn.parse(f"{high.zfill(8)}/{low.zfill(8)}".lower()) == lsn


def test_a_position_is_spelled_as_postgresql_spells_it() -> None:
    assert str(Lsn.parse("0/3000060")) == "0/3000060"
    assert Lsn.parse("1/0").position == 2**32
    assert Lsn.parse("16/B374D848") - Lsn.parse("16/B374D800") == 0x48


def test_order_is_not_the_order_of_the_text() -> None:
    assert Lsn.parse("9/0") < Lsn.parse("10/0")
    assert max(Lsn.parse("0/FF"), Lsn.parse("0/100")) == Lsn.parse("0/100")


@pytest.mark.parametrize(
    "text", ["", "0", "0/", "/0", "0/123456789", "g/0", "0/0\n", " 0/0", "-1/0"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a log position"):
        Lsn.parse(text)


@pytest.mark.parametrize("position", [-1, 2**64])
def test_a_position_outside_64_bits_is_refused(position: int) -> None:
    with pytest.raises(ValueError, match="64 bits"):
        Lsn(position)
