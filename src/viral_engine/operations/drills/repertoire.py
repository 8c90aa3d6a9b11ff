"""The stories that the package ships, and what a seed makes of one. Pure, but for reading them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from random import Random

from viral_engine.errors import MisuseError
from viral_engine.operations.drills.story import Act, Expect, Story
from viral_engine.operations.drills.story_toml import parse

__all__ = ["drawn", "shipped", "story_named"]


def shipped() -> dict[str, Story]:
    """Return every story of the package by its name."""
    folder = resources.files(__package__).joinpath("catalogue")
    files = sorted(
        (one for one in folder.iterdir() if one.name.endswith(".toml")), key=lambda f: f.name
    )
    return {
        story.name: story
        for one in files
        for story in [parse(one.read_text(encoding="utf-8"), name=one.name.removesuffix(".toml"))]
    }


def story_named(name: str, stories: Mapping[str, Story]) -> Story:
    """Return a story; raises MisuseError with what comes close."""
    if name in stories:
        return stories[name]
    near = difflib.get_close_matches(name, stories, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise MisuseError(
        f"There is no drill {name!r}.", suggestion=f"{hint}All of them: viral drill --list."
    )


def drawn(story: Story, stories: Mapping[str, Story], random: Random) -> Story:
    """Return the story with what the seed decides: which others it is made of, and every delay."""
    acts: list[Act] = list(story.acts)
    catalogue, expect, sentence = set(story.catalogue), story.expect, story.sentence
    if story.draw:
        chosen = random.sample(story.draw.among, story.draw.count)
        sentence = f"{sentence.rstrip('.')}: {' and '.join(chosen)}."
        for name in chosen:
            later = random.uniform(0, story.draw.spread)
            other = story_named(name, stories)
            acts += [replace(act, at=act.at + later) for act in other.acts]
            catalogue |= set(other.catalogue)
            expect = _joined(expect, other.expect)
    settled = [
        replace(act, at=round(act.at + random.uniform(0, act.within), 3), within=0.0)
        for act in acts
    ]
    return replace(
        story, acts=tuple(sorted(settled, key=lambda act: act.at)), expect=expect,
        sentence=sentence, catalogue=tuple(sorted(catalogue)), draw=None,
    )  # fmt: skip


def _joined(one: Expect, other: Expect) -> Expect:
    return replace(
        one,
        election=one.election or other.election,
        lost=tuple(dict.fromkeys((*one.lost, *other.lost))),
        cut_off=tuple(dict.fromkeys((*one.cut_off, *other.cut_off))),
    )
