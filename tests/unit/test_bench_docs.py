from __future__ import annotations

import re
from pathlib import Path

from bench import consistency_report, growth, handler, soak, soak_report
from bench.command import BENCHES, parser
from bench.consistency import ARMS, PEERS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "benchmarks.md").read_text("utf-8")


def test_the_page_has_a_section_for_every_benchmark() -> None:
    sections = set(re.findall(r"^## `([a-z-]+)`", PAGE, re.MULTILINE))
    assert sections == {*BENCHES, "soak"}


def test_the_page_names_every_option() -> None:
    actions = [*parser()._actions, *soak.parser()._actions]
    options = {text for action in actions for text in action.option_strings if len(text) > 2}
    assert {one for one in options if f"`{one}" not in PAGE} == {"--help"}


def test_the_page_names_every_way_that_is_compared_and_each_can_be_run() -> None:
    for arm in ARMS:
        assert f"`{arm}`" in PAGE
        assert (PEERS / f"{arm}.py").exists()


def test_the_page_says_the_figures_that_are_judged() -> None:
    said = (
        f"at least {handler.LEAST_TIMES:g} times",
        f"at most {consistency_report.MOST_TIMES:g} times",
        f"at most {consistency_report.MOST_WAIT_MS:g} ms",
        f"at least {consistency_report.LEAST_LOCAL:.0%}".replace("%", " %"),
        f"by at most {growth.MOST_GROWTH:.0%}".replace("%", " %"),
        f"{consistency_report.LEAST_WAITS} reads",
        f"{soak_report.LEAST_FAILOVERS} failovers",
        f"{soak_report.LEAST_WAITS} waits",
    )
    assert [one for one in said if one not in PAGE] == []


def test_both_targets_are_in_the_makefile() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    assert "bench/run.py" in text
    assert "bench/soak.py" in text
    assert "make soak" in PAGE
