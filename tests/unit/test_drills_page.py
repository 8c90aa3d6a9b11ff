"""The page of a drill: whole, escaped, every figure on it, and what is unknown said to be."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from tests.unit.drills_reports import black_hole

from viral_engine.operations.drills.page import page
from viral_engine.operations.drills.paper import lanes
from viral_engine.operations.drills.timeline import chart

VOID = {"meta", "br"}
NOTHING: dict[str, Any] = {
    "requests": [], "marks": [], "checks": [], "workloads": [], "witnesses": [],
    "timeline": {"bucket_s": 0.5, "series": [], "roles": [], "lag": []},
}  # fmt: skip
UNKNOWN: dict[str, Any] = dict.fromkeys(
    ["rto_seconds", "rpo_writes", "error_rate", "error_rate_in_window"]
)


class Parsed(HTMLParser):
    """A page taken apart: what its table cells and figures say, by row, and all of its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.figures: dict[str, str] = {}
        self.text = ""
        self._term = ""
        self.feed(html)
        self.rows = [[" ".join(cell.split()) for cell in row] for row in self.rows]
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "br":
            self.handle_data(" ")
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")
        if tag == "dd":
            self.figures[self._term] = ""
        if tag == "dt":
            self._term = ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data
        if "dt" in self.open:
            self._term += data
        if "dd" in self.open:
            self.figures[self._term] += data

    def row(self, *begins: str) -> list[str]:
        (found,) = [one for one in self.rows if one[: len(begins)] == list(begins)]
        return found


def mapped(value: Any, text: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: mapped(one, text) for key, one in value.items()}
    if isinstance(value, list):
        return [mapped(one, text) for one in value]
    return text(value) if isinstance(value, str) else value


def test_the_first_glance_says_whether_it_held_how_long_nobody_could_write_and_what_was_lost() -> (
    None
):
    found = Parsed(page(black_hole()))
    assert found.figures == {
        "Nobody could write for": "8.4 s",
        "Acknowledged writes lost": "0",
        "Requests that failed": "9.31 %",
        "… while it was broken": "22.3 %",
    }
    assert found.text.index("kept", found.text.index("seed")) < found.text.index("8.4 s")


def test_a_page_needs_nothing_beside_itself() -> None:
    html = page({"verdict": "kept", "drills": [black_hole(), black_hole(drill="other")]})
    for outside in ("http:", "https:", "//", "<script", "<link", "<img", "@import", "src="):
        assert outside not in html
    assert html.count("url(") == html.count("url(#stripes)")


def test_every_member_of_a_report_is_on_its_page() -> None:
    report = black_hole()
    report["requests"][0] |= {"scheduled": 123_456, "dropped": 17, "in_flight_at_lost_edge": 3}
    found = Parsed(page(report))
    one = report["requests"][0]
    assert found.row("iad", "read-eventual") == [
        "iad", "read-eventual", "123,456", str(one["ok"]), str(one["failed"]), "17", "3",
        "5.00 %", "12.0 % 36 of 300", "9 ms", "16 ms", "21 ms", "26 ms", "8.4 s",
    ]  # fmt: skip
    lost = ["kept", "acknowledged strong writes lost", "0", "0"]
    assert found.row("kept", "acknowledged strong writes lost") == lost
    assert found.row("broken", "bank")[2] == "498"
    for text in _texts(report, skipped={"timeline"}):
        assert text in found.text
    for number in ("24 requests", "60 s", "100 users", "2,880", "11.4 %", "33.7 %", "seed 7"):
        assert number in found.text


def _texts(value: Any, skipped: frozenset[str] | set[str] = frozenset()) -> list[str]:
    if isinstance(value, dict):
        return [t for key, one in value.items() if key not in skipped for t in _texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    # Times are written for people.
    return [value] if isinstance(value, str) and "T" not in value else []


def test_whatever_a_report_says_is_text_and_nothing_else() -> None:
    evil = "<script>alert(1)</script>\" onload='x' {{ 7 * 7 }}"
    report = mapped(black_hole(), lambda text: text + evil)
    report["requests"][0]["reasons"] = {evil: 3}
    html = page({"verdict": evil, "drills": [report]})
    found = Parsed(html)
    assert "<script" not in html
    assert evil in found.text
    assert not [tag for tag, attrs in found.tags if "onload" in attrs or tag == "script"]


def test_what_is_unknown_is_said_to_be_unknown_and_never_a_zero() -> None:
    found = Parsed(page(black_hole(**UNKNOWN, verdict="unknown", why="nobody saw the fault")))
    assert set(found.figures.values()) == {"unknown"}
    assert "nobody saw the fault" in found.text
    everything = Parsed(
        page({"verdict": "unknown", "drills": [black_hole(**UNKNOWN, verdict="unknown")]})
    )
    assert everything.row("black-hole")[1:6] == ["unknown"] * 5


def test_where_no_write_failed_nobody_had_to_wait_and_where_all_did_nobody_knows() -> None:
    report = black_hole(rto_seconds=None)
    assert Parsed(page(report)).figures["Nobody could write for"] == "unknown"
    for row in report["requests"]:
        row["failed"] = 0
    assert Parsed(page(report)).figures["Nobody could write for"] == "0 s"
    assert Parsed(page(report | {"requests": []})).figures["Nobody could write for"] == "unknown"


def test_a_report_in_which_nothing_was_recorded_is_a_page_all_the_same() -> None:
    found = Parsed(page(black_hole(**NOTHING)))
    assert "svg" not in {tag for tag, _ in found.tags}
    assert "None ran, so nothing was shown." in found.text
    assert Parsed(page({"verdict": "unknown", "drills": []})).text.count("no drill ran") == 1


def test_a_timeline_of_which_only_some_was_recorded_is_drawn() -> None:
    roles = black_hole()["timeline"]["roles"]
    empty = {"region": "iad", "kind": "write", "ok": [], "failed": [], "p95_ms": []}
    for series in ([], [empty]):
        timeline = {"bucket_s": 0.5, "series": series, "roles": roles, "lag": []}
        found = Parsed(page(black_hole(timeline=timeline)))
        assert "svg" in {tag for tag, _ in found.tags}


def test_many_drills_begin_with_a_table_that_leads_to_each() -> None:
    drills = [black_hole(), black_hole(drill="lag", verdict="broken", rpo_writes=3)]
    found = Parsed(page({"verdict": "broken", "drills": drills}))
    assert found.row("lag")[:4] == ["lag", "broken", "8.4 s", "3"]
    places = {attrs["id"] for _, attrs in found.tags if "id" in attrs}
    links = {str(attrs["href"])[1:] for tag, attrs in found.tags if tag == "a"}
    assert links == {"black-hole", "lag"} <= places
    assert "1 broken, 1 kept" in found.text


def test_a_report_that_lacks_a_member_is_refused() -> None:
    report = black_hole()
    del report["rpo_writes"]
    with pytest.raises(UndefinedError, match="rpo_writes"):
        page(report)


def test_when_nobody_could_write_is_marked_and_a_calm_minute_has_no_mark() -> None:
    drawn = chart(black_hole())
    assert drawn is not None
    assert [one.text for one in drawn.silences] == ["no write for 8.5 s"]
    calm = black_hole()
    for one in calm["timeline"]["series"]:
        one["ok"] = [5] * len(one["ok"])
    drawn = chart(calm)
    assert drawn is not None
    assert drawn.silences == []
    assert [panel.region for panel in drawn.panels] == ["iad", "lhr"]


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 120)), max_size=12))
def test_names_of_marks_never_lie_over_each_other(marks: list[tuple[int, int]]) -> None:
    # As on the page: a name is right of its line, or left of it where the paper ends.
    spans = [
        (x - width, x, x) if x + width > 300 else (x, x + width, x) for x, width in sorted(marks)
    ]
    placed = list(zip(spans, lanes(spans), strict=True))
    for place, ((start, end, line), lane) in enumerate(placed):
        for (other_start, other_end, _), other in placed[:place]:
            assert other != lane or end < other_start or other_end < start
            assert other < lane or not other_start <= line <= other_end
