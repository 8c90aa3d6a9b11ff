"""Lines are kept in order, across files, deaths and slow listeners."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from viral_engine.globe import logbook
from viral_engine.globe.logbook import LogBook


@pytest.fixture
def book(tmp_path: Path) -> Iterator[LogBook]:
    made = LogBook(tmp_path / "logs")
    yield made
    made.close()


def say(book: LogBook, line: str, machine: str = "m1") -> None:
    book.write(region="iad", machine=machine, role="app", line=line)


def test_lines_of_all_machines_are_told_oldest_first(book: LogBook) -> None:
    for number in range(6):
        say(book, str(number), machine=f"m{number % 2}")
    told = list(book.history())
    assert [line.at for line in told] == sorted(line.at for line in told)
    assert {line.line for line in told} == set("012345")
    assert book.last_lines("m1", 2) == ["3", "5"]
    assert book.last_lines("nobody", 2) == []


@pytest.mark.parametrize("odd", ["", "a\nb", "\r\n", "\u2028", "\x00\x1b[31m", '{"a":1}', "é" * 9])
def test_a_line_comes_back_as_it_was_written(book: LogBook, odd: str) -> None:
    say(book, odd)
    say(book, "next")
    assert book.last_lines("m1", 5) == [odd, "next"]


def test_a_full_file_is_set_aside_and_one_older_is_kept(
    book: LogBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logbook, "FILE_LIMIT", 1000)
    for number in range(60):
        say(book, f"{number:04}")
    files = sorted(path.name for path in book.folder.iterdir())
    assert files == ["m1.log", "m1.log.1"]
    kept = book.last_lines("m1", 100)
    assert kept == [f"{number:04}" for number in range(60 - len(kept), 60)]
    assert 9 <= len(kept) < 30
    assert all(path.stat().st_size <= 1200 for path in book.folder.iterdir())


def test_a_file_that_was_full_before_is_set_aside_by_the_next_platform(
    book: LogBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logbook, "FILE_LIMIT", 100)
    say(book, "x" * 200)
    book.close()
    say(book, "a")
    say(book, "b")
    assert book.last_lines("m1", 2) == ["a", "b"]
    assert (book.folder / "m1.log.1").exists()


@pytest.mark.parametrize("left", ['{"at":"2026', "garbage\n", '{"at":"x"}\n', "[]\n", "\n"])
def test_what_a_death_within_a_line_left_does_not_hide_the_other_lines(
    book: LogBook, left: str
) -> None:
    say(book, "before")
    book.close()
    with (book.folder / "m1.log").open("a") as file:
        file.write(left)
    say(book, "after")
    assert book.last_lines("m1", 5) == ["before", "after"]
    assert [line.line for line in book.history()] == ["before", "after"]


async def test_listeners_hear_what_is_written_while_they_listen(book: LogBook) -> None:
    say(book, "before")
    with book.listening() as lines:
        say(book, "now")
        async with asyncio.timeout(5):
            assert (await anext(lines)).line == "now"
    say(book, "after")


async def test_a_listener_that_is_too_far_behind_is_cut_off_and_the_others_are_not(
    book: LogBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logbook, "BACKLOG", 3)
    with book.listening() as slow, book.listening() as quick:
        for number in range(5):
            say(book, str(number))
            assert (await anext(quick)).line == str(number)
        async with asyncio.timeout(5):
            assert [line.line async for line in slow] == ["0", "1", "2"]
