"""A machine whose log nobody takes goes on, and says what it could not say."""

from __future__ import annotations

import os
import threading

from viral_engine.nodes.log_lines import LINES_WAITING, LogLines


def test_lines_are_written_in_their_order_before_it_is_left() -> None:
    reads, writes = os.pipe()
    with os.fdopen(reads, "rb") as said:
        with LogLines(writes) as lines:
            for number in range(300):
                lines.add(b"line %d" % number)
        os.close(writes)
        assert said.read().splitlines() == [b"line %d" % number for number in range(300)]


def test_whoever_adds_a_line_does_not_wait_for_a_reader_and_what_is_lost_is_counted() -> None:
    reads, writes = os.pipe()
    line = b"x" * 1000
    found: list[bytes] = []
    with os.fdopen(reads, "rb") as said:
        with LogLines(writes) as lines:
            for _ in range(LINES_WAITING + 1000):
                lines.add(line)
            reader = threading.Thread(target=lambda: found.extend(said))
            reader.start()
            # Room is made one line at a time, and the first two of it are for what is told here.
            while not found or found.count(line + b"\n") < LINES_WAITING // 2:
                reader.join(0.01)
            lines.add(b"the last one")
        os.close(writes)
        reader.join(10)
    assert not reader.is_alive()
    assert found[-1] == b"the last one\n"
    kept = found.count(line + b"\n")
    lost = [int(said.split()[2]) for said in found if said.endswith(b"are lost\n")]
    assert sum(lost) == LINES_WAITING + 1000 - kept
    assert kept < LINES_WAITING + 200  # what a pipe holds beside those that wait


def test_a_reader_that_went_away_stops_nobody() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    with LogLines(writes) as lines:
        for _ in range(3):
            lines.add(b"nobody hears it")
    os.close(writes)
