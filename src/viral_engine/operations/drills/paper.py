"""Places on paper: the axis of time, names beside their lines, areas and lines as SVG paths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "LEFT",
    "LETTER",
    "RIGHT",
    "WIDTH",
    "Axis",
    "Band",
    "Label",
    "Shape",
    "Tick",
    "labels",
    "lanes",
    "line",
    "runs",
    "steps",
]

WIDTH, LEFT, RIGHT = 1080.0, 62.0, 12.0
LANE = 17.0
"""Height of one line of the marks' labels."""
LETTER = 6.1
"""Width of a letter of a label, rather too much than too little."""
LONGEST_LABEL = 52
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
MOST_TICKS = 13


@dataclass(frozen=True, slots=True)
class Label:
    """The name of a mark: where its line is, where its words begin or end, and in which lane."""

    x: float
    y: float
    text: str
    whole: str
    to_the_left: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """A number at an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A path, by what it shows."""

    kind: str
    path: str


@dataclass(frozen=True, slots=True)
class Band:
    """A span of time, by what it says; ``text`` is empty where there is no room for it."""

    x: float
    width: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Axis:
    """The axis of time, which everything shares: from 0 to ``end`` seconds, in steps of ``bucket``."""

    end: float
    bucket: float

    def x(self, seconds: float) -> float:
        """Return the place of a moment; what is outside is at the edge."""
        share = min(max(seconds, 0.0), self.end) / self.end
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    @property
    def ticks(self) -> list[Tick]:
        """Return round moments, so few that their numbers do not touch."""
        step = next((one for one in STEPS if self.end / one < MOST_TICKS), STEPS[-1])
        places = range(0, int(self.end) + 1, step)
        return [Tick(self.x(place), f"{place} s") for place in places]


def lanes(spans: Iterable[tuple[float, float, float]]) -> list[int]:
    """Return a lane for each span, given by its beginning, its end and its line, in their order.

    Two spans of one lane do not touch, and a line that comes down from its lane meets no span that
    began before it.
    """
    placed: list[tuple[float, float, int]] = []
    for start, end, line in spans:
        taken = [
            lane
            for begun, ended, lane in placed
            if begun <= line <= ended or (begun <= end and start <= ended)
        ]
        placed.append((start, end, max(taken, default=-1) + 1))
    return [lane for _, _, lane in placed]


def labels(marks: Sequence[Mapping[str, Any]], time: Axis) -> tuple[list[Label], float]:
    """Return the names of marks, none over another, and how much height they take."""
    ordered = sorted(marks, key=lambda mark: float(mark["at_s"]))
    words = [f"{max(0.0, mark['at_s']):.1f} s  {mark['what']}" for mark in ordered]
    short = [w if len(w) <= LONGEST_LABEL else f"{w[: LONGEST_LABEL - 1]}…" for w in words]
    places = [time.x(mark["at_s"]) for mark in ordered]
    wide = [len(text) * LETTER + 10 for text in short]
    turned = [x + width > WIDTH for x, width in zip(places, wide, strict=True)]
    spans = [
        (x - width if turn else x, x if turn else x + width, x)
        for x, width, turn in zip(places, wide, turned, strict=True)
    ]
    found = lanes(spans)
    named = [
        Label(x, (lane + 1) * LANE, text, whole, turn)
        for x, lane, text, whole, turn in zip(places, found, short, words, turned, strict=True)
    ]
    return named, (max(found, default=-1) + 1) * LANE + 6


def steps(
    lower: Sequence[float], upper: Sequence[float], time: Axis, floor: float, scale: float
) -> str:
    """Return the area between two counts, each step of time as wide as it is."""

    def along(values: Sequence[float]) -> list[str]:
        return [
            f"{time.x((place + side) * time.bucket)},{floor - value * scale:.1f}"
            for place, value in enumerate(values)
            for side in (0, 1)
        ]

    return "M" + "L".join([*along(upper), *reversed(along(lower))]) + "Z"


Point = tuple[float, float]


def runs(points: Iterable[tuple[float, float | None]]) -> Iterator[list[Point]]:
    """Yield what is known without a gap."""
    run: list[Point] = []
    for x, y in points:
        if y is not None:
            run.append((x, y))
        elif run:
            yield run
            run = []
    if run:
        yield run


def line(run: Sequence[Point]) -> str:
    """Return the line through some points."""
    # One point alone would be a line without length.
    end = f"L{run[0][0] + 1:.1f},{run[0][1]}" if len(run) == 1 else ""
    return "M" + "L".join(f"{x},{y}" for x, y in run) + end
