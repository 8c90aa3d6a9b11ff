from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viral_engine.service.cursor import Cursor
from viral_engine.service.ids import new_id


@given(moment=st.datetimes(timezones=st.just(UTC)), task_id=st.uuids())
def test_a_cursor_comes_back_as_it_was_given(moment: datetime, task_id: UUID) -> None:
    cursor = Cursor(moment, task_id)
    assert Cursor.decode(cursor.encode()) == cursor


@pytest.mark.parametrize("text", ["", "x", "é", "====", "AAAA", "MjAyNi0wMS0wMXw", "a" * 5000])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        Cursor.decode(text)


def test_ids_are_of_version_7_and_carry_their_time() -> None:
    before = datetime.now(UTC)
    made = new_id()
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    age_ms = (made.int >> 80) - int(before.timestamp() * 1000)
    assert 0 <= age_ms < 5000
